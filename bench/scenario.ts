import type { Tool } from './tools.ts';

/**
 * The target of a measurement. A missed target is reported; only failed counts make the run fail.
 */
export interface Goal {
  readonly of: 'value' | 'ratio';
  readonly bound: '≥' | '≤';
  readonly limit: number;
}

/** One line of the table. */
export interface Row {
  /** The measure with its unit, for example `decisions/s`. */
  readonly what: string;
  /** The measured contender. */
  readonly by: string;
  /** One value per round. */
  readonly values: readonly number[];
  /** Each value divided by the reference's value of the same round. */
  readonly ratios?: readonly number[];
  readonly goal?: Goal;
}

/** A claim that does not depend on time. */
export interface Check {
  readonly claim: string;
  readonly holds: boolean;
}

/** The parameters of a scenario, and the functions that take its findings. */
export interface Bench {
  readonly rounds: number;
  /** Duration of the load in each round, in seconds. */
  readonly seconds: number;
  /** Duration of the soak test, in minutes. */
  readonly minutes: number;
  /** Whether the run only checks that everything works. */
  readonly quick: boolean;
  row(row: Row): void;
  check(claim: string, holds: boolean): void;
  /** Registers a cleanup. Cleanups run when the scenario has ended, the last one first. */
  teardown(undo: () => unknown): void;
}

export interface Scenario {
  readonly name: string;
  readonly about: string;
  readonly tools: readonly Tool[];
  /** Whether the scenario runs only if it is named. */
  readonly byNameOnly?: true;
  run(bench: Bench): Promise<void>;
}
