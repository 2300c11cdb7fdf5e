import type { Token } from '../credential/token.ts';
import type { Unavailable } from '../decision/decision.ts';
import type { Identity } from '../identity/identity.ts';

/** The token is good, and this is whose it is. */
export interface Authenticated {
  readonly kind: 'authenticated';
  readonly identity: Identity;
  /** How long ago the verdict's time ended, in milliseconds, where it is served all the same (grace). */
  readonly staleForMs?: number;
}

/** The token is not good, says the API server or a local check. */
export interface Rejected {
  readonly kind: 'rejected';
  readonly reason: 'token_rejected' | 'audience_mismatch' | 'user_missing' | 'too_many_failures';
  /** For people; one line of printable ASCII. */
  readonly detail: string;
  /** Seconds after which asking again makes sense, where that is known. */
  readonly retryAfterSeconds?: number;
  /**
   * Until when it may be cached, in milliseconds on the monotonic clock, if it was decided locally by what is known of
   * the API server's keys and clock: either may change.
   */
  readonly keepUntil?: number;
}

/** What is known about a token, or that nobody could be asked. */
export type AuthResult = Authenticated | Rejected | Unavailable;

/**
 * Whose turn it is when reviews are scarce: tokens whose signature has been verified; everything else; and verdicts that
 * are renewed before they end, for which nobody waits.
 */
export type Priority = 'verified' | 'unverified' | 'refresh';

/**
 * Where an answer came from: a verdict that was known (`cache`), also past its time (`grace`); a `review` that was asked
 * for it, or one that another request had asked (`shared`); or nobody was asked (`local`).
 */
export type ResultSource = 'cache' | 'grace' | 'review' | 'shared' | 'local';

/** Follows one question, for those who watch. It changes nothing, and nothing is read from it on the way. */
export interface RequestTrace {
  /** `local` at first; each stage that knows better writes it. */
  source: ResultSource;
  /** The span of the request, where it has one of ours. */
  readonly span?: { readonly traceId: string; readonly spanId: string } | undefined;
  /** Begins the span of a review that is asked for this question. */
  startReviewSpan?(): ReviewSpan;
}

/** The span of one review. */
export interface ReviewSpan {
  /** What the request to the API server carries of it. */
  readonly headers: Readonly<Record<string, string>>;
  /** @param outcome `accepted`, `refused`, or why nobody could say. */
  end(outcome: string): void;
}

/** The circumstances of a question: never what decides it, only when and whether it is asked. */
export interface ReviewContext {
  /** Aborted when the whole review has had its time; a stage then answers `unavailable` and lets go. */
  readonly signal?: AbortSignal;
  /** `unverified` where nothing is said. */
  readonly priority?: Priority;
  /** Address of the client on whose behalf is asked, where a limit needs it. */
  readonly client?: string | undefined;
  /** Where somebody wants to know how the answer was come by. */
  readonly trail?: RequestTrace | undefined;
  /** What the request takes while it waits, in bytes. Read only if it has to wait. */
  readonly heldBytes?: number;
}

/**
 * Says whose a token is. Each stage of the corridor takes an authority and is one.
 *
 * A stage never throws and never rejects for anything an API server, a network or a caller can do; all that is an
 * {@link Unavailable}. It answers at once, without a promise, where it knows.
 */
export interface TokenAuthenticator {
  authenticate(token: Token, asking?: ReviewContext): AuthResult | Promise<AuthResult>;
}

/** An {@link Unavailable} verdict of the API server's or our own side; retry after a second unless it asked for more. */
export function unavailable(cause: Unavailable['cause'], retryAfterSeconds = 1): Unavailable {
  return { kind: 'unavailable', reason: 'authority_unavailable', cause, retryAfterSeconds };
}
