/** The result of one check. */
export interface CheckResult {
  readonly check: string;
  /** `warn`: gatecar works, but the operator may have meant something else. */
  readonly result: 'ok' | 'warn' | 'fail';
  /** One line of text for the operator. */
  readonly text: string;
  /** The command that fixes or investigates it. */
  readonly fix?: string;
}

/** The check found no problem. */
export function ok(check: string, text: string): CheckResult {
  return { check, result: 'ok', text };
}

/** gatecar works, but the operator may have meant something else. */
export function warn(check: string, text: string, fix?: string): CheckResult {
  return { check, result: 'warn', text, ...(fix !== undefined && { fix }) };
}

/** gatecar does not work with these settings. */
export function fail(check: string, text: string, fix?: string): CheckResult {
  return { check, result: 'fail', text, ...(fix !== undefined && { fix }) };
}
