import type { Deny } from '../decision/decision.ts';
import { encodeValue } from '../identity/header-encoding.ts';
import type { Identity } from '../identity/identity.ts';

/** Who may pass once the API server has said who it is. `undefined` stands for everybody. */
export interface Policy {
  readonly allowedNamespaces: ReadonlySet<string> | undefined;
  /** Full usernames, `system:serviceaccount:<namespace>:<name>`. */
  readonly allowedServiceAccounts: ReadonlySet<string> | undefined;
}

/** Longest name that is repeated in an answer or a log; the API server's own names fit, whatever else is cut. */
const MAX_NAME_LENGTH = 512;

/**
 * Judges an identity. Both lists must pass where both are set, and a user that is no ServiceAccount passes none.
 *
 * @returns what is denied, or `undefined` if nothing is.
 */
export function evaluatePolicy(identity: Identity, policy: Policy): Deny | undefined {
  const { allowedNamespaces, allowedServiceAccounts } = policy;
  const account = identity.serviceAccount;
  if (allowedNamespaces !== undefined && (account === undefined || !allowedNamespaces.has(account.namespace))) {
    return deny('namespace_denied', account?.namespace ?? `none (${identity.username})`, identity);
  }
  if (
    allowedServiceAccounts !== undefined &&
    (account === undefined || !allowedServiceAccounts.has(identity.username))
  ) {
    return deny('service_account_denied', identity.username, identity);
  }
  return undefined;
}

function deny(reason: Deny['reason'], detail: string, identity: Identity): Deny {
  return { kind: 'deny', reason, detail: printable(detail), username: printable(identity.username), identity };
}

function printable(name: string): string {
  return encodeValue(name).slice(0, MAX_NAME_LENGTH);
}
