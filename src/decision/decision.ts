import type { Identity } from '../identity/identity.ts';

/** Why a request is not let through because of what it carries: an answer about the caller. */
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

/** Why nobody could say: a fault of ours or of the API server, never an answer about the caller. */
export type UnavailableReason = 'authority_unavailable' | 'overloaded';

export type Reason = DenialReason | UnavailableReason;

/** The detail of `credentials_malformed` where the credential is of another scheme than Bearer. */
export const OTHER_SCHEME = 'other scheme';

/** What is decided about one request. */
export type Decision = Allow | Deny | Unavailable;

export interface Allow {
  readonly kind: 'allow';
  /** `undefined` in basic mode, which knows nobody. */
  readonly identity: Identity | undefined;
  /** How long ago the verdict's time ended, in whole seconds, where it serves by grace. */
  readonly staleSeconds?: number;
}

export interface Deny {
  readonly kind: 'deny';
  readonly reason: DenialReason;
  /** What completes the reason's text, see `explain`; empty where the text needs nothing. */
  readonly detail: string;
  /** Who it was, where the API server had said so before the policy refused; printable ASCII, cut where it is long. */
  readonly username?: string;
  /** The same as the API server said it, for whoever renders it with care. */
  readonly identity?: Identity;
  /** Seconds after which asking again makes sense, where that is known. */
  readonly retryAfterSeconds?: number;
}

export interface Unavailable {
  readonly kind: 'unavailable';
  readonly reason: UnavailableReason;
  readonly cause: UnavailableCause;
  /** Seconds after which asking again makes sense. */
  readonly retryAfterSeconds: number;
}

/**
 * The classes of outage: what a client, a log line and a metric may know of one. The raw error stays where it was caught,
 * since it may quote an answer that repeats the token.
 */
export type UnavailableCause =
  | 'no client'
  | 'timeout'
  | 'connection refused'
  | 'connection reset'
  | 'host not found'
  | 'tls'
  | 'connection failed'
  | 'unauthorized'
  | 'forbidden'
  | 'too many requests'
  | 'server error'
  | 'unexpected status'
  | 'not a TokenReview'
  | 'response too large'
  | OverloadCause
  | 'internal error';

/** The limits of gatecar itself: a request that meets one is `overloaded`, and the API server is not asked. */
export type OverloadCause = 'too many reviews' | 'waiting_memory_full' | 'transfers_memory_full' | 'event loop behind';
