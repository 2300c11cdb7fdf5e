/** One door of the corridor, and what was said there. */
export interface Step {
  readonly step: string;
  /**
   * `passes` and `refuses` are about the token; `skipped`: nothing was said here; `warning` and `fault` are about gatecar,
   * the cluster and their clocks.
   */
  readonly result: 'passes' | 'refuses' | 'skipped' | 'warning' | 'fault';
  readonly text: string;
  /** What to type next. */
  readonly fix?: string;
}

/** A step without its name. */
export type StepOutcome = Omit<Step, 'step'>;

/** The token gets past. */
export const pass = (text: string): StepOutcome => ({ result: 'passes', text });
/** Nothing is said about the token. */
export const skipped = (text: string): StepOutcome => ({ result: 'skipped', text });
/** The token is not let through. @param fix what to type next. */
export const reject = (text: string, fix?: string): StepOutcome => ({
  result: 'refuses',
  text,
  ...(fix !== undefined && { fix }),
});
