import { type Decision, describeCause, OTHER_SCHEME, type Reason } from './decision.ts';

/** The settings for responses to denied and unavailable requests. */
export interface ResponseSettings {
  readonly policyDeniedStatus: 401 | 403;
  readonly unavailableStatus: 401 | 403 | 503;
  readonly errorDetail: 'full' | 'generic';
}

/** The response to a decision other than allow, independent of the gateway's protocol. */
export interface ErrorResponse {
  readonly status: 401 | 403 | 503;
  readonly text: string;
  /** `undefined` if `GATECAR_ERROR_DETAIL` is `generic`. */
  readonly reason: Reason | undefined;
  /**
   * The `WWW-Authenticate` value (RFC 6750 §3); `undefined` for a 503, which no credential fixes.
   */
  readonly challenge: string | undefined;
  readonly retryAfterSeconds: number | undefined;
}

type NotAllowed = Exclude<Decision, { kind: 'allow' }>;

/**
 * An error code of RFC 6750 §3.1. `undefined` if no bearer token is at fault: the response must not
 * have a code then.
 */
type ChallengeError = 'invalid_request' | 'invalid_token' | 'insufficient_scope' | undefined;

interface Row {
  readonly status: 'denied' | 'policy' | 'unavailable';
  readonly text: (decision: NotAllowed) => string;
  readonly error: ChallengeError | ((decision: NotAllowed) => ChallengeError);
}

const validationFailed = (decision: NotAllowed): string => `Token validation failed: ${detailOf(decision)}`;

const TABLE: { readonly [R in Reason]: Row } = {
  credentials_missing: { status: 'denied', text: () => 'Missing Authorization header', error: undefined },
  credentials_malformed: {
    status: 'denied',
    text: () => 'Invalid Authorization header format',
    error: decision => (detailOf(decision) === OTHER_SCHEME ? undefined : 'invalid_request'),
  },
  token_empty: { status: 'denied', text: () => 'Empty token', error: 'invalid_request' },
  token_rejected: { status: 'denied', text: validationFailed, error: 'invalid_token' },
  audience_mismatch: {
    status: 'denied',
    text: () => 'Token validation failed: token audiences are not accepted',
    error: 'invalid_token',
  },
  user_missing: {
    status: 'denied',
    text: () => 'Token validation failed: No user information in TokenReview response',
    error: 'invalid_token',
  },
  // No error code: the token was not checked, and the client must not discard a valid one.
  too_many_failures: { status: 'denied', text: () => 'Too many failed attempts', error: undefined },
  namespace_denied: {
    status: 'policy',
    text: decision => `Token validation failed: ServiceAccount from unauthorized namespace: ${detailOf(decision)}`,
    error: 'insufficient_scope',
  },
  service_account_denied: {
    status: 'policy',
    text: decision => `Token validation failed: ServiceAccount not authorized: ${detailOf(decision)}`,
    error: 'insufficient_scope',
  },
  authority_unavailable: { status: 'unavailable', text: unavailableText, error: undefined },
  overloaded: { status: 'unavailable', text: () => 'Too many token reviews in progress', error: undefined },
};

const GENERIC_TEXT = { 401: 'Unauthorized', 403: 'Forbidden', 503: 'Service Unavailable' } as const;

/** Maps a decision other than allow to its status, text and challenge, by the table above. */
export function toErrorResponse(decision: NotAllowed, settings: ResponseSettings): ErrorResponse {
  const row = TABLE[decision.reason];
  const status = statusOf(row, settings);
  const generic = settings.errorDetail === 'generic';
  return {
    status,
    text: generic ? GENERIC_TEXT[status] : row.text(decision),
    reason: generic ? undefined : decision.reason,
    challenge: status === 503 ? undefined : challenge(errorOf(row, decision), status, generic),
    retryAfterSeconds: decision.retryAfterSeconds,
  };
}

function statusOf(row: Row, settings: ResponseSettings): 401 | 403 | 503 {
  switch (row.status) {
    case 'denied':
      return 401;
    case 'policy':
      return settings.policyDeniedStatus;
    case 'unavailable':
      return settings.unavailableStatus;
  }
}

function errorOf({ error }: Row, decision: NotAllowed): ChallengeError {
  return typeof error === 'function' ? error(decision) : error;
}

function challenge(error: ChallengeError, status: 401 | 403, generic: boolean): string {
  // Without details, a 401 of the policy must look the same as a 401 for an invalid token.
  const errorCode = generic && status === 401 && error === 'insufficient_scope' ? 'invalid_token' : error;
  return errorCode === undefined ? 'Bearer realm="gatecar"' : `Bearer realm="gatecar", error="${errorCode}"`;
}

function detailOf(decision: NotAllowed): string {
  return decision.kind === 'deny' ? decision.detail : describeCause(decision.cause);
}

function unavailableText(decision: NotAllowed): string {
  const noClient = decision.kind === 'unavailable' && decision.cause === 'client_unavailable';
  return noClient ? 'Failed to create Kubernetes client' : `TokenReview API call failed: ${detailOf(decision)}`;
}
