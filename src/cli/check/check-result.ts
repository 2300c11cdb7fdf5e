/** One thing that was looked at. */
export interface Finding {
  readonly check: string;
  /** `warn`: it works, and may not be what is meant. */
  readonly result: 'ok' | 'warn' | 'fail';
  /** For people; one line. */
  readonly text: string;
  /** The command that mends it, or finds out more. */
  readonly mend?: string;
}

/** All is well. */
export function ok(check: string, text: string): Finding {
  return { check, result: 'ok', text };
}

/** It works, and may not be what is meant. */
export function warn(check: string, text: string, mend?: string): Finding {
  return { check, result: 'warn', text, ...(mend !== undefined && { mend }) };
}

/** gatecar does not work so. */
export function fail(check: string, text: string, mend?: string): Finding {
  return { check, result: 'fail', text, ...(mend !== undefined && { mend }) };
}
