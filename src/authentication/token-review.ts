import { revealToken, type Token } from '../credential/token.ts';
import type { OutageCause } from '../decision/decision.ts';
import { type Authority, type Lane, type ReviewSpan, unavailable, type Verdict } from './token-authenticator.ts';
import { type KubeConnection, KubeConnectionError } from '../kube/api-client.ts';
import { readReviewAnswer } from './token-review-response.ts';

export const TOKEN_REVIEW_PATH = '/apis/authentication.k8s.io/v1/tokenreviews';

/** How a review ended: what `gatecar_reviews_total{outcome}` counts. */
export type ReviewOutcome = 'accepted' | 'refused' | OutageCause;

/** What is told after each review. */
export interface ReviewReport {
  readonly outcome: ReviewOutcome;
  readonly durationMs: number;
  readonly lane: Lane;
  /** In our own words, where nobody could be asked; safe to log. */
  readonly problem: string | undefined;
}

export interface TokenReviewOptions {
  readonly connection: Pick<KubeConnection, 'post'>;
  /** Asked for in `spec.audiences`; an empty list asks for none, which the API server takes as its own. */
  readonly audiences: readonly string[];
  readonly onReview?: (review: ReviewReport) => void;
  readonly now?: () => number;
}

/** The authority at the corridor's end: asks the API server's TokenReview API (authentication.k8s.io/v1). */
export function tokenReview(options: TokenReviewOptions): Authority {
  const { connection, audiences, onReview = () => {}, now = () => performance.now() } = options;
  const bodyFor = requestBodies(audiences);

  const ask = async (
    token: Token,
    signal: AbortSignal,
    headers: ReviewSpan['headers'] | undefined,
  ): Promise<[Verdict, problem?: string]> => {
    try {
      const answer = await connection.post(TOKEN_REVIEW_PATH, bodyFor(token), signal, headers);
      const verdict = readReviewAnswer(answer, token, audiences);
      return verdict.kind === 'unavailable' ? [verdict, `${verdict.cause} (HTTP ${answer.status})`] : [verdict];
    } catch (error) {
      return error instanceof KubeConnectionError
        ? [unavailable(error.outage), error.message]
        : [unavailable('internal error'), 'internal error'];
    }
  };

  return {
    async review(token, { signal = new AbortController().signal, lane = 'unverified', trail } = {}) {
      if (trail !== undefined) trail.source = 'review';
      const start = now();
      const span = trail?.reviewing?.();
      const [verdict, problem] = await ask(token, signal, span?.headers);
      const outcome = verdict.kind === 'unavailable' ? verdict.cause : verdict.kind;
      span?.end(outcome);
      onReview({ outcome, durationMs: now() - start, lane, problem });
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
