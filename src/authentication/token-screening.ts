import { readClaims } from '../credential/jwt-claims.ts';
import type { TokenAuthenticator } from './token-authenticator.ts';
import { INVALID_BEARER_TOKEN, rejected } from './token-review-response.ts';

/** Longest token that is looked at, in characters. ServiceAccount tokens have 1 to 2 thousand. */
export const MAX_TOKEN_LENGTH = 16_384;

/** What is checked before anybody is asked; it only ever refuses. */
export type ScreeningCheck = 'length' | 'opaque';

export interface TokenScreeningOptions {
  /** What becomes of tokens that are no JWT (webhook tokens, token files). */
  readonly opaqueTokens: 'ask' | 'refuse';
  readonly onRefusal?: (check: ScreeningCheck) => void;
}

/** Refuses what needs no question, with the text that the API server would have used. */
export function withTokenScreening(inner: TokenAuthenticator, options: TokenScreeningOptions): TokenAuthenticator {
  const { opaqueTokens, onRefusal = () => {} } = options;
  const refuse = (check: ScreeningCheck) => {
    onRefusal(check);
    return rejected('token_rejected', INVALID_BEARER_TOKEN);
  };
  return {
    authenticate(token, asking) {
      if (token.length > MAX_TOKEN_LENGTH) return refuse('length');
      if (opaqueTokens === 'refuse' && readClaims(token) === undefined) return refuse('opaque');
      return inner.authenticate(token, asking);
    },
  };
}
