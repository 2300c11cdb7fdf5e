import { readClaims } from '../credential/jwt-claims.ts';
import type { Authority } from './token-authenticator.ts';
import { INVALID_BEARER_TOKEN, refused } from './token-review-response.ts';

/** Longest token that is looked at, in characters. ServiceAccount tokens have 1 to 2 thousand. */
export const MAX_TOKEN_LENGTH = 16_384;

/** What is checked before anybody is asked; it only ever refuses. */
export type LocalCheck = 'length' | 'opaque';

export interface PrescreenOptions {
  /** What becomes of tokens that are no JWT (webhook tokens, token files). */
  readonly opaqueTokens: 'ask' | 'refuse';
  readonly onRefusal?: (check: LocalCheck) => void;
}

/** Refuses what needs no question, with the text that the API server would have used. */
export function prescreened(inner: Authority, options: PrescreenOptions): Authority {
  const { opaqueTokens, onRefusal = () => {} } = options;
  const refuse = (check: LocalCheck) => {
    onRefusal(check);
    return refused('token_rejected', INVALID_BEARER_TOKEN);
  };
  return {
    review(token, asking) {
      if (token.length > MAX_TOKEN_LENGTH) return refuse('length');
      if (opaqueTokens === 'refuse' && readClaims(token) === undefined) return refuse('opaque');
      return inner.review(token, asking);
    },
  };
}
