import { revealToken, type Token } from '../credential/token.ts';
import { describeCause, type UnavailableCause } from '../decision/decision.ts';
import { type KubeApiClient, KubeApiError } from '../kube/api-client.ts';
import {
  type AuthResult,
  type Priority,
  type ReviewSpan,
  type TokenAuthenticator,
  unavailable,
} from './token-authenticator.ts';
import { parseTokenReviewResponse } from './token-review-response.ts';

export const TOKEN_REVIEW_PATH = '/apis/authentication.k8s.io/v1/tokenreviews';

/** The outcome of a review, counted by `gatecar_reviews_total{outcome}`. */
export type ReviewOutcome = 'authenticated' | 'rejected' | UnavailableCause;

/** Describes a finished review. */
export interface ReviewEvent {
  readonly outcome: ReviewOutcome;
  readonly durationMs: number;
  readonly priority: Priority;
  /**
   * Why there is no result, in gatecar's own words; safe to log. `undefined` if there is a result.
   */
  readonly problem: string | undefined;
}

export interface TokenReviewOptions {
  readonly connection: Pick<KubeApiClient, 'post'>;
  /**
   * Sent in `spec.audiences`. If empty, the field is omitted and the API server checks its own
   * audiences.
   */
  readonly audiences: readonly string[];
  readonly onReview?: (review: ReviewEvent) => void;
  readonly now?: () => number;
}

/**
 * Authenticates tokens with the API server's TokenReview API (authentication.k8s.io/v1). It is the
 * last stage of the pipeline.
 */
export function tokenReview(options: TokenReviewOptions): TokenAuthenticator {
  const { connection, audiences, onReview = () => {}, now = () => performance.now() } = options;
  const bodyFor = requestBodies(audiences);

  const ask = async (
    token: Token,
    signal: AbortSignal,
    headers: ReviewSpan['headers'] | undefined,
  ): Promise<[AuthResult, problem?: string]> => {
    try {
      const answer = await connection.post(TOKEN_REVIEW_PATH, bodyFor(token), signal, headers);
      const result = parseTokenReviewResponse(answer, token, audiences);
      return result.kind === 'unavailable'
        ? [result, `${describeCause(result.cause)} (HTTP ${answer.status})`]
        : [result];
    } catch (error) {
      return error instanceof KubeApiError
        ? [unavailable(error.outage), error.message]
        : [unavailable('internal_error'), describeCause('internal_error')];
    }
  };

  return {
    async authenticate(token, { signal = new AbortController().signal, priority = 'unverified', trace } = {}) {
      if (trace !== undefined) trace.source = 'review';
      const start = now();
      const span = trace?.startReviewSpan?.();
      const [result, problem] = await ask(token, signal, span?.headers);
      const outcome = result.kind === 'unavailable' ? result.cause : result.kind;
      span?.end(outcome);
      onReview({ outcome, durationMs: now() - start, priority, problem });
      return result;
    },
  };
}

/** Creates request bodies. All parts but the token are rendered once. */
function requestBodies(audiences: readonly string[]): (token: Token) => string {
  const asked = audiences.length > 0 ? `,"audiences":${JSON.stringify(audiences)}` : '';
  return token =>
    `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":${JSON.stringify(revealToken(token))}${asked}}}`;
}
