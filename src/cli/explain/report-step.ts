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
  readonly mend?: string;
}

/** A step without its name. */
export type Said = Omit<Step, 'step'>;

/** The token gets past. */
export const passes = (text: string): Said => ({ result: 'passes', text });
/** Nothing is said about the token. */
export const skipped = (text: string): Said => ({ result: 'skipped', text });
/** The token is not let through. @param mend what to type next. */
export const refuses = (text: string, mend?: string): Said => ({
  result: 'refuses',
  text,
  ...(mend !== undefined && { mend }),
});
