import type { ResultCache } from './cache/result-cache.ts';
import type { FailureCounter } from './failure-counter.ts';
import type { AuthResult, Rejected, TokenAuthenticator } from './token-authenticator.ts';

/**
 * Refuses unknown tokens of a client address that has failed too often, without a review; whatever is known is answered
 * as ever, so that users who share an address with an attacker stay in.
 *
 * A refusal that was asked for counts, wherever it came from. What does not: a no that is at hand (the same token again,
 * which costs nobody anything), an outage, a yes that the policy denies afterwards (that token is good). A yes takes
 * nothing back: an attacker may own one good token. Reviews under way when the limit is reached are finished; a place
 * kept for each would refuse good tokens that come together from one address. Without a client's address nothing counts.
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
