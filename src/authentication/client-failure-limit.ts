import type { FailureCounter } from './failure-counter.ts';
import type { Authority, Refused, Verdict } from './token-authenticator.ts';
import type { Cached } from './cache/result-cache.ts';

/**
 * Refuses unknown tokens of a client address that has failed too often, without a review; whatever is known is answered
 * as ever, so that users who share an address with an attacker stay in.
 *
 * A refusal that was asked for counts, wherever it came from. What does not: a no that is at hand (the same token again,
 * which costs nobody anything), an outage, a yes that the policy denies afterwards (that token is good). A yes takes
 * nothing back: an attacker may own one good token. Reviews under way when the limit is reached are finished; a place
 * kept for each would refuse good tokens that come together from one address. Without a client's address nothing counts.
 */
export function limited(inner: Cached, failures: FailureCounter): Authority {
  const count = (client: string, verdict: Verdict): Verdict => {
    if (verdict.kind === 'refused') failures.failed(client, verdict);
    return verdict;
  };
  return {
    review(token, asking) {
      const client = asking?.client;
      if (client === undefined) return inner.review(token, asking);
      const blockedForMs = failures.blockedForMs(client);
      if (blockedForMs > 0) return inner.known(token, asking) ?? tooMany(blockedForMs);
      const known = inner.known(token, asking);
      if (known !== undefined) return known;
      const verdict = inner.review(token, asking);
      return verdict instanceof Promise ? verdict.then(reviewed => count(client, reviewed)) : count(client, verdict);
    },
  };
}

function tooMany(blockedForMs: number): Refused {
  return {
    kind: 'refused',
    reason: 'too_many_failures',
    detail: '',
    retryAfterSeconds: Math.ceil(blockedForMs / 1000),
  };
}
