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
  const count = (client: string, verdict: AuthResult): AuthResult => {
    if (verdict.kind === 'rejected') failures.failed(client, verdict);
    return verdict;
  };
  return {
    authenticate(token, asking) {
      const client = asking?.client;
      if (client === undefined) return inner.authenticate(token, asking);
      const blockedForMs = failures.blockedForMs(client);
      if (blockedForMs > 0) return inner.getCached(token, asking) ?? tooManyFailures(blockedForMs);
      const known = inner.getCached(token, asking);
      if (known !== undefined) return known;
      const verdict = inner.authenticate(token, asking);
      return verdict instanceof Promise ? verdict.then(reviewed => count(client, reviewed)) : count(client, verdict);
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
