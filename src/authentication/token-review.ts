import { revealToken, type Token } from '../credential/token.ts';
import type { UnavailableCause } from '../decision/decision.ts';
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

/** How a review ended: what `gatecar_reviews_total{outcome}` counts. */
export type ReviewOutcome = 'authenticated' | 'rejected' | UnavailableCause;

/** What is told after each review. */
export interface ReviewEvent {
  readonly outcome: ReviewOutcome;
  readonly durationMs: number;
  readonly priority: Priority;
  /** In our own words, where nobody could be asked; safe to log. */
  readonly problem: string | undefined;
}

export interface TokenReviewOptions {
  readonly connection: Pick<KubeApiClient, 'post'>;
  /** Asked for in `spec.audiences`; an empty list asks for none, which the API server takes as its own. */
  readonly audiences: readonly string[];
  readonly onReview?: (review: ReviewEvent) => void;
  readonly now?: () => number;
}

/** The authority at the corridor's end: asks the API server's TokenReview API (authentication.k8s.io/v1). */
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
      const verdict = parseTokenReviewResponse(answer, token, audiences);
      return verdict.kind === 'unavailable' ? [verdict, `${verdict.cause} (HTTP ${answer.status})`] : [verdict];
    } catch (error) {
      return error instanceof KubeApiError
        ? [unavailable(error.outage), error.message]
        : [unavailable('internal error'), 'internal error'];
    }
  };

  return {
    async authenticate(token, { signal = new AbortController().signal, priority = 'unverified', trail } = {}) {
      if (trail !== undefined) trail.source = 'review';
      const start = now();
      const span = trail?.startReviewSpan?.();
      const [verdict, problem] = await ask(token, signal, span?.headers);
      const outcome = verdict.kind === 'unavailable' ? verdict.cause : verdict.kind;
      span?.end(outcome);
      onReview({ outcome, durationMs: now() - start, priority, problem });
      return verdict;
    },
  };
}

/** Makes request bodies; all but the token is rendered once. */
function requestBodies(audiences: readonly string[]): (token: Token) => string {
  const asked = audiences.length > 0 ? `,"audiences":${JSON.stringify(audiences)}` : '';
  return token =>
    `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":${JSON.stringify(revealToken(token))}${asked}}}`;
}
