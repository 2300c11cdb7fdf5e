import type { Identity } from '../identity/identity.ts';

/**
 * Why gatecar denies a request because of its credential. A denial is a statement about the caller.
 */
export type DenialReason =
  | 'credentials_missing'
  | 'credentials_malformed'
  | 'token_empty'
  | 'token_rejected'
  | 'audience_mismatch'
  | 'user_missing'
  | 'too_many_failures'
  | 'namespace_denied'
  | 'service_account_denied';

/**
 * Why gatecar could not decide: a failure of gatecar or of the API server. It is never a statement
 * about the caller.
 */
export type UnavailableReason = 'authority_unavailable' | 'overloaded';

export type Reason = DenialReason | UnavailableReason;

/** The detail of `credentials_malformed` if the credential's scheme is not Bearer. */
export const OTHER_SCHEME = 'other scheme';

/** The decision on one request. */
export type Decision = Allow | Deny | Unavailable;

export interface Allow {
  readonly kind: 'allow';
  /** `undefined` in format-only mode, which verifies no token. */
  readonly identity: Identity | undefined;
  /** Whole seconds since the cached result expired, if it is served by stale-if-error. */
  readonly staleSeconds?: number;
}

export interface Deny {
  readonly kind: 'deny';
  readonly reason: DenialReason;
  /** Completes the reason's text in `toErrorResponse`; empty if the text is complete. */
  readonly detail: string;
  /**
   * The authenticated username, if the policy denies the request. Printable ASCII; a long one is
   * truncated.
   */
  readonly username?: string;
  /** The identity as the API server returned it. Callers must encode or redact it. */
  readonly identity?: Identity;
  /** Seconds after which the client may retry, if known. */
  readonly retryAfterSeconds?: number;
}

export interface Unavailable {
  readonly kind: 'unavailable';
  readonly reason: UnavailableReason;
  readonly cause: UnavailableCause;
  /** Seconds after which the client may retry. */
  readonly retryAfterSeconds: number;
}

/** Why a review failed, and the words for it in error texts. */
const REVIEW_FAILURES = {
  client_unavailable: 'no client',
  timeout: 'timeout',
  connection_refused: 'connection refused',
  connection_reset: 'connection reset',
  dns_failure: 'host not found',
  tls: 'tls',
  connection_failed: 'connection failed',
  unauthorized: 'unauthorized',
  forbidden: 'forbidden',
  too_many_requests: 'too many requests',
  server_error: 'server error',
  unexpected_status: 'unexpected status',
  invalid_response: 'not a TokenReview',
  response_too_large: 'response too large',
  internal_error: 'internal error',
} as const;

/**
 * The limits of gatecar itself. A request that exceeds one is `overloaded`, and the API server is
 * not called.
 */
const OVERLOADS = {
  too_many_reviews: 'too many reviews',
  waiting_memory_full: 'no memory for waiting requests',
  transfers_memory_full: 'no memory for incomplete requests',
  event_loop_lag: 'event loop behind',
} as const;

type ReviewFailureCause = keyof typeof REVIEW_FAILURES;

export type OverloadCause = keyof typeof OVERLOADS;

export const REVIEW_FAILURE_CAUSES = Object.keys(REVIEW_FAILURES) as readonly ReviewFailureCause[];

export const OVERLOAD_CAUSES = Object.keys(OVERLOADS) as readonly OverloadCause[];

/** The decision on a request that exceeds a limit of gatecar. */
export function overloaded(cause: OverloadCause): Unavailable {
  return { kind: 'unavailable', reason: 'overloaded', cause, retryAfterSeconds: 1 };
}

/**
 * The classes of outage. A client, a log line and a metric get only the class. The raw error is not
 * passed on, since it may quote a response that repeats the token.
 */
export type UnavailableCause = ReviewFailureCause | OverloadCause;

const CAUSE_TEXTS: Readonly<Record<UnavailableCause, string>> = { ...REVIEW_FAILURES, ...OVERLOADS };

/** Returns a cause in words, for error texts. Metrics, logs and the audit use the cause itself. */
export function describeCause(cause: UnavailableCause): string {
  return CAUSE_TEXTS[cause];
}
