import type { CacheKey } from '../cache/key.ts';
import { singleFlight } from '../cache/single-flight.ts';
import type { VerdictStore } from '../cache/verdict-store.ts';
import { readClaims } from '../credential/claims.ts';
import type { Token } from '../credential/token.ts';
import { type Accepted, type Authority, type Refused, unavailable, type Verdict } from './authority.ts';

/** What a look-up found: what `gatecar_cache_lookups_total{result}` counts. */
export type LookupResult = 'hit_positive' | 'hit_negative' | 'miss' | 'coalesced';

export interface CacheOptions {
  readonly key: (token: Token) => CacheKey;
  readonly accepted: VerdictStore<Accepted>;
  readonly refused: VerdictStore<Refused>;
  /** How long a yes is kept, in milliseconds; 0 keeps none. */
  readonly ttlMs: number;
  /** How long a no is kept, in milliseconds; 0 keeps none. */
  readonly negativeTtlMs: number;
  /** How long one review may take, waiting for admission included, in milliseconds. */
  readonly reviewTimeoutMs: number;
  readonly onLookup?: (result: LookupResult) => void;
  /** Milliseconds since the epoch: what a token's `exp` is compared with. */
  readonly wallClock?: () => number;
}

/**
 * Remembers verdicts on tokens (never on requests: policy is judged on each), and shares a running review among all who
 * wait for it. An outage is nobody's verdict and is not remembered.
 *
 * A yes is never kept past the token's own `exp`. A yes and a no for one key replace each other.
 */
export function cached(inner: Authority, options: CacheOptions): Authority {
  const { key: keyOf, accepted, refused, ttlMs, negativeTtlMs, reviewTimeoutMs } = options;
  const { onLookup = () => {}, wallClock = Date.now } = options;
  const flights = singleFlight<CacheKey, Verdict>({ deadlineMs: reviewTimeoutMs, late: () => unavailable('timeout') });

  const remember = (key: CacheKey, token: Token, verdict: Verdict): void => {
    switch (verdict.kind) {
      case 'accepted':
        refused.delete(key);
        accepted.set(key, verdict, Math.min(ttlMs, lifetimeMs(token, wallClock)));
        return;
      case 'refused':
        accepted.delete(key);
        refused.set(key, verdict, negativeTtlMs);
        return;
      case 'unavailable':
        return;
    }
  };

  const ask = async (key: CacheKey, token: Token, signal: AbortSignal): Promise<Verdict> => {
    const verdict = await inner.review(token, { signal });
    // Past the deadline everybody has been answered; a later flight may know better by now.
    if (!signal.aborted) remember(key, token, verdict);
    return verdict;
  };

  return {
    review(token) {
      const key = keyOf(token);
      const yes = accepted.get(key);
      if (yes !== undefined) {
        onLookup('hit_positive');
        return yes;
      }
      const no = refused.get(key);
      if (no !== undefined) {
        onLookup('hit_negative');
        return no;
      }
      const flight = flights.join(key);
      onLookup(flight === undefined ? 'miss' : 'coalesced');
      return flight ?? flights.start(key, signal => ask(key, token, signal));
    },
  };
}

/** How much longer a token says it lives, in milliseconds; for ever where it does not say. */
function lifetimeMs(token: Token, wallClock: () => number): number {
  const expiresAtMs = readClaims(token)?.expiresAtMs;
  return expiresAtMs === undefined ? Number.POSITIVE_INFINITY : expiresAtMs - wallClock();
}
