import type {
  Authenticated,
  AuthResult,
  Rejected,
  ReviewContext,
  TokenAuthenticator,
} from './authentication/token-authenticator.ts';
import type { Credential } from './credential/authorization-header.ts';
import { type Allow, type Decision, type Deny, OTHER_SCHEME } from './decision/decision.ts';
import { evaluatePolicy, type Policy } from './policy/policy.ts';

/**
 * What a gateway knows about a request in addition to its credential: the client's address, the
 * trace and the size. Only the failure limit uses the address.
 */
export type RequestContext = Pick<ReviewContext, 'client' | 'trace' | 'heldBytes'>;

/** Decides on one request by its credential. Returns no promise if the result is cached. */
export type Authorize = (credential: Credential, request?: RequestContext) => Decision | Promise<Decision>;

const MISSING: Deny = { kind: 'deny', reason: 'credentials_missing', detail: '' };
const OTHER_SCHEME_DECISION: Deny = { kind: 'deny', reason: 'credentials_malformed', detail: OTHER_SCHEME };
const MALFORMED: Deny = { kind: 'deny', reason: 'credentials_malformed', detail: '' };
const EMPTY: Deny = { kind: 'deny', reason: 'token_empty', detail: '' };
const FORMAT_ONLY_ALLOW: Allow = { kind: 'allow', identity: undefined };

/** Creates the authorization pipeline: credential → authenticator → policy → decision. */
export function createAuthorizer(authenticator: TokenAuthenticator, policy: Policy): Authorize {
  const decide = (result: AuthResult): Decision => {
    switch (result.kind) {
      case 'authenticated':
        return evaluatePolicy(result.identity, policy) ?? allow(result);
      case 'rejected':
        return deny(result);
      case 'unavailable':
        return result;
    }
  };
  return (credential, request) => {
    if (credential.kind !== 'token') return withoutToken(credential);
    const result = authenticator.authenticate(credential.token, request);
    return result instanceof Promise ? result.then(decide) : decide(result);
  };
}

/**
 * Format-only mode: allows every request with a well-formed bearer token, without authenticating
 * it.
 */
export const authorizeFormatOnly: Authorize = credential =>
  credential.kind === 'token' ? FORMAT_ONLY_ALLOW : withoutToken(credential);

function deny({ reason, detail, retryAfterSeconds }: Rejected): Deny {
  return { kind: 'deny', reason, detail, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) };
}

function allow({ identity, staleForMs }: Authenticated): Allow {
  if (staleForMs === undefined) return { kind: 'allow', identity };
  return { kind: 'allow', identity, staleSeconds: Math.floor(staleForMs / 1000) };
}

function withoutToken(credential: Exclude<Credential, { kind: 'token' }>): Deny {
  switch (credential.kind) {
    case 'absent':
      return MISSING;
    case 'other_scheme':
      return OTHER_SCHEME_DECISION;
    case 'malformed':
      return MALFORMED;
    case 'empty':
      return EMPTY;
  }
}
