import type { Deny } from '../decision/decision.ts';
import { encodeValue } from '../identity/header-encoding.ts';
import type { Identity } from '../identity/identity.ts';
import { MAX_NAME_LENGTH } from '../limits/constants.ts';

/** The allowlists for authenticated identities. An `undefined` list allows every identity. */
export interface Policy {
  readonly allowedNamespaces: ReadonlySet<string> | undefined;
  /** Full usernames, `system:serviceaccount:<namespace>:<name>`. */
  readonly allowedServiceAccounts: ReadonlySet<string> | undefined;
}

/** Creates the policy from lists of names. */
export function createPolicy(lists: {
  readonly allowedNamespaces: readonly string[] | undefined;
  readonly allowedServiceAccounts: readonly string[] | undefined;
}): Policy {
  const setOf = (names: readonly string[] | undefined) => names && new Set(names);
  return {
    allowedNamespaces: setOf(lists.allowedNamespaces),
    allowedServiceAccounts: setOf(lists.allowedServiceAccounts),
  };
}

/**
 * Checks an identity against the allowlists. If both lists are set, both must contain it. A user
 * that is not a ServiceAccount is in no list.
 *
 * @returns the denial, or `undefined` if the policy allows the identity.
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
