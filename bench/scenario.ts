import type { Tool } from './tools.ts';

/** What a measurement is held against, of the issue that asked for speed. A missed one is told; only counts fail a run. */
export interface Goal {
  readonly of: 'value' | 'ratio';
  readonly bound: '≥' | '≤';
  readonly limit: number;
}

/** One line of the table. */
export interface Row {
  /** With its unit: `decisions/s`. */
  readonly what: string;
  /** Who was measured. */
  readonly by: string;
  /** One for each round. */
  readonly values: readonly number[];
  /** Each to what the reference did in the same round. */
  readonly ratios?: readonly number[];
  readonly goal?: Goal;
}

/** A claim that does not depend on the clock. */
export interface Check {
  readonly claim: string;
  readonly holds: boolean;
}

/** What a scenario gets, and where it puts what it finds. */
export interface Bench {
  readonly rounds: number;
  /** Of load, in each round. */
  readonly seconds: number;
  /** Of the soak. */
  readonly minutes: number;
  /** Whether it is only tried if everything works. */
  readonly quick: boolean;
  row(row: Row): void;
  check(claim: string, holds: boolean): void;
  /** Undone when the scenario has ended, the last first. */
  teardown(undo: () => unknown): void;
}

export interface Scenario {
  readonly name: string;
  readonly about: string;
  readonly tools: readonly Tool[];
  /** Whether it is left out where no name is given. */
  readonly byNameOnly?: true;
  run(bench: Bench): Promise<void>;
}
