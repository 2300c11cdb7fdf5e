import { readClaims } from '../credential/jwt-claims.ts';
import { MAX_TOKEN_LENGTH } from '../limits/constants.ts';
import type { TokenAuthenticator } from './token-authenticator.ts';
import { INVALID_BEARER_TOKEN, rejected } from './token-review-response.ts';

/** A check that runs before any review. It can only reject. */
export type ScreeningCheck = 'length' | 'opaque';

export interface TokenScreeningOptions {
  /**
   * Whether tokens that are not JWTs (webhook tokens, static token files) are reviewed or rejected.
   */
  readonly opaqueTokens: 'review' | 'reject';
  readonly onRejection?: (check: ScreeningCheck) => void;
}

/** Rejects tokens that need no review, with the text that the API server would use. */
export function withTokenScreening(inner: TokenAuthenticator, options: TokenScreeningOptions): TokenAuthenticator {
  const { opaqueTokens, onRejection } = options;
  const reject = (check: ScreeningCheck) => {
    onRejection?.(check);
    return rejected('token_rejected', INVALID_BEARER_TOKEN);
  };
  return {
    authenticate(token, context) {
      if (token.length > MAX_TOKEN_LENGTH) return reject('length');
      if (opaqueTokens === 'reject' && readClaims(token) === undefined) return reject('opaque');
      return inner.authenticate(token, context);
    },
  };
}
