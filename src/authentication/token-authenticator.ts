import type { Token } from '../credential/token.ts';
import type { Unavailable } from '../decision/decision.ts';
import type { Identity } from '../identity/identity.ts';

/** The token is valid and belongs to `identity`. */
export interface Authenticated {
  readonly kind: 'authenticated';
  readonly identity: Identity;
  /**
   * Milliseconds since the result's TTL ended. Set only if the result is served stale
   * (stale-if-error).
   */
  readonly staleForMs?: number;
}

/** The API server or a local check rejected the token. */
export interface Rejected {
  readonly kind: 'rejected';
  readonly reason: 'token_rejected' | 'audience_mismatch' | 'user_missing' | 'too_many_failures';
  /** Human-readable: one line of printable ASCII. */
  readonly detail: string;
  /** Seconds after which a retry makes sense, if known. */
  readonly retryAfterSeconds?: number;
  /**
   * The result may be cached until this time, in milliseconds on the monotonic clock. Set if
   * gatecar based the rejection on the API server's keys or clock, since either may change.
   */
  readonly keepUntil?: number;
}

/**
 * What authentication found: the token's user, a rejection, or no result because of a fault or
 * limit.
 */
export type AuthResult = Authenticated | Rejected | Unavailable;

/**
 * Which reviews go first if slots are scarce: tokens with a verified signature, then other tokens,
 * then cache refreshes. No client waits for a refresh.
 */
export type Priority = 'verified' | 'unverified' | 'refresh';

/**
 * Where a result came from.
 *
 * - `cache`: a cached result within its TTL.
 * - `stale`: a cached result after its TTL (stale-if-error).
 * - `review`: a review that this request started.
 * - `shared`: a review that another request started.
 * - `local`: gatecar decided without a review.
 */
export type ResultSource = 'cache' | 'stale' | 'review' | 'shared' | 'local';

/**
 * Records how a request was processed, for observability. Stages write to it and never read it, so
 * it changes no result.
 */
export interface RequestTrace {
  /** `local` at first. A stage that knows a more exact source overwrites it. */
  source: ResultSource;
  /** The span of the request, if gatecar created one. */
  readonly span?: { readonly traceId: string; readonly spanId: string } | undefined;
  /** Starts the span of a review that this request triggers. */
  startReviewSpan?(): ReviewSpan;
}

/** The span of one review. */
export interface ReviewSpan {
  /** Trace headers of the request to the API server. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Ends the span. @param outcome `authenticated`, `rejected`, or the cause of an unavailable
   * result.
   */
  end(outcome: string): void;
}

/**
 * The context of an authentication. It never changes whether a token is valid, only whether and
 * when a review runs.
 */
export interface ReviewContext {
  /**
   * Aborted at the deadline of the whole review. A stage then returns `unavailable` and releases
   * what it holds.
   */
  readonly signal?: AbortSignal;
  /** `unverified` if absent. */
  readonly priority?: Priority;
  /** The client's address, if a limit needs it. */
  readonly client?: string | undefined;
  /** Set if the caller wants to know how the result was obtained. */
  readonly trace?: RequestTrace | undefined;
  /**
   * Memory that the request occupies while it waits, in bytes. Read only if the request has to
   * wait.
   */
  readonly heldBytes?: number;
}

/**
 * Authenticates tokens. Each stage of the pipeline wraps an authenticator and is one.
 *
 * A stage never throws, and its promise never rejects, because of an API server, a network or a
 * caller. Such a fault becomes an {@link Unavailable}. A stage that knows the result returns it
 * without a promise.
 */
export interface TokenAuthenticator {
  authenticate(token: Token, context?: ReviewContext): AuthResult | Promise<AuthResult>;
}

/**
 * Creates an {@link Unavailable} result for a fault of the API server or of gatecar. Clients retry
 * after one second unless the API server asked for more.
 */
export function unavailable(cause: Unavailable['cause'], retryAfterSeconds = 1): Unavailable {
  return { kind: 'unavailable', reason: 'authority_unavailable', cause, retryAfterSeconds };
}
