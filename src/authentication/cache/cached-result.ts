import { readClaims } from '../../credential/jwt-claims.ts';
import type { Token } from '../../credential/token.ts';
import { identityInterner } from '../../identity/identity-interner.ts';
import type { Authenticated } from '../token-authenticator.ts';
import type { CacheKey } from './cache-key.ts';
import { type CacheLifetime, cacheLifetime } from './refresh-schedule.ts';
import type { ResultStore } from './result-store.ts';

/** An authenticated token as it is cached. */
export interface CachedResult extends Authenticated, CacheLifetime {
  /** The `exp` claim, in seconds since the epoch; `undefined` if the token has none. */
  readonly expiresAt: number | undefined;
  /** Set once a refresh is scheduled: each cached result is refreshed at most once. */
  renewing: boolean;
}

/** Whether the token has expired. @param wallClockMs milliseconds since the epoch. */
export function isExpired({ expiresAt }: CachedResult, wallClockMs: number): boolean {
  return expiresAt !== undefined && wallClockMs >= expiresAt * 1000;
}

export interface ResultCacheWriterOptions {
  readonly accepted: ResultStore<CachedResult>;
  /** How long an authenticated token is cached, in milliseconds; 0 caches none. */
  readonly ttlMs: number;
  /**
   * The stale-if-error period, in milliseconds. After its TTL, a result may be served for this time
   * while the API server is unreachable.
   */
  readonly cacheStaleIfErrorMs: number;
  /** Whether results in use are refreshed before they expire. */
  readonly cacheRefreshAhead: boolean;
  /** Milliseconds on the clock of the stores. */
  readonly now?: () => number;
  /** Milliseconds since the epoch. It is compared with the token's `exp`. */
  readonly wallClock?: () => number;
}

/**
 * Caches authenticated tokens for the TTL plus the stale-if-error period, but never past the
 * token's `exp`.
 *
 * @returns a function that returns the stored object, so all requests get the same instance.
 */
export function createResultWriter(
  options: ResultCacheWriterOptions,
): (key: CacheKey, token: Token, verdict: Authenticated) => Authenticated {
  const { accepted, ttlMs, cacheStaleIfErrorMs, cacheRefreshAhead } = options;
  const { now = () => performance.now(), wallClock = Date.now } = options;
  const intern = identityInterner();
  return (key, token, verdict) => {
    if (ttlMs === 0) return verdict;
    const expiresAtMs = readClaims(token)?.expiresAtMs;
    const expiresAt = expiresAtMs === undefined ? undefined : expiresAtMs / 1000;
    const tokenLifetimeMs = (expiresAtMs ?? Number.POSITIVE_INFINITY) - wallClock();
    const { freshUntil, renewFrom } = cacheLifetime({ startedAt: now(), ttlMs, tokenLifetimeMs, cacheRefreshAhead });
    const identity = intern(verdict.identity);
    const known: CachedResult = { kind: 'authenticated', identity, freshUntil, renewFrom, expiresAt, renewing: false };
    accepted.set(key, known, Math.min(ttlMs + cacheStaleIfErrorMs, tokenLifetimeMs));
    return known;
  };
}
