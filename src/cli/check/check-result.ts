/** One thing that was looked at. */
export interface CheckResult {
  readonly check: string;
  /** `warn`: it works, and may not be what is meant. */
  readonly result: 'ok' | 'warn' | 'fail';
  /** For people; one line. */
  readonly text: string;
  /** The command that fixes it, or finds out more. */
  readonly fix?: string;
}

/** All is well. */
export function ok(check: string, text: string): CheckResult {
  return { check, result: 'ok', text };
}

/** It works, and may not be what is meant. */
export function warn(check: string, text: string, fix?: string): CheckResult {
  return { check, result: 'warn', text, ...(fix !== undefined && { fix }) };
}

/** gatecar does not work so. */
export function fail(check: string, text: string, fix?: string): CheckResult {
  return { check, result: 'fail', text, ...(fix !== undefined && { fix }) };
}
