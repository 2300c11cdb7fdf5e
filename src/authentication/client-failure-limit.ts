import type { ResultCache } from './cache/result-cache.ts';
import type { FailureCounter } from './failure-counter.ts';
import type { AuthResult, Rejected, TokenAuthenticator } from './token-authenticator.ts';

/**
 * Rejects uncached tokens of a client address that has failed too often, without a review. Cached
 * results are served as usual, so users who share an address with an attacker keep access.
 *
 * A rejection that is not cached counts, whichever stage it comes from. These do not count:
 *
 * - A cached rejection: repeating the same token costs no review.
 * - An outage.
 * - A token that the policy denies afterwards: that token is valid.
 *
 * An authenticated token does not lower the count, since an attacker may own a valid token. Reviews
 * in flight when the limit is reached are finished. If each of them reserved a failure, valid
 * tokens that arrive together from one address would be rejected. Without a client address nothing
 * counts.
 */
export function withClientFailureLimit(inner: ResultCache, failures: FailureCounter): TokenAuthenticator {
  const count = (client: string, result: AuthResult): AuthResult => {
    if (result.kind === 'rejected') failures.failed(client, result);
    return result;
  };
  return {
    authenticate(token, context) {
      const client = context?.client;
      if (client === undefined) return inner.authenticate(token, context);
      const blockedForMs = failures.blockedForMs(client);
      if (blockedForMs > 0) return inner.getCached(token, context) ?? tooManyFailures(blockedForMs);
      const cached = inner.getCached(token, context);
      if (cached !== undefined) return cached;
      const result = inner.authenticate(token, context);
      return result instanceof Promise ? result.then(reviewed => count(client, reviewed)) : count(client, result);
    },
  };
}

function tooManyFailures(blockedForMs: number): Rejected {
  return {
    kind: 'rejected',
    reason: 'too_many_failures',
    detail: '',
    retryAfterSeconds: Math.ceil(blockedForMs / 1000),
  };
}
