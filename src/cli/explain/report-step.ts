/** One stage of the pipeline and its result for the token. */
export interface Step {
  readonly step: string;
  /**
   * `passes` and `rejects` are about the token. `skipped` means that the stage has no result.
   * `warning` and `fault` are about gatecar, the cluster and their clocks.
   */
  readonly result: 'passes' | 'rejects' | 'skipped' | 'warning' | 'fault';
  readonly text: string;
  /** The command to run next. */
  readonly fix?: string;
}

/** A step without its name. */
export type StepOutcome = Omit<Step, 'step'>;

/** The token passes the stage. */
export const pass = (text: string): StepOutcome => ({ result: 'passes', text });
/** The stage has no result for the token. */
export const skipped = (text: string): StepOutcome => ({ result: 'skipped', text });
/** The stage rejects the token. @param fix the command to run next. */
export const reject = (text: string, fix?: string): StepOutcome => ({
  result: 'rejects',
  text,
  ...(fix !== undefined && { fix }),
});
