import { readClaims } from '../../credential/jwt-claims.ts';
import type { Token } from '../../credential/token.ts';
import { identityInterner } from '../../identity/identity-interner.ts';
import type { Authenticated, AuthResult, Rejected } from '../token-authenticator.ts';
import type { CacheKey } from './cache-key.ts';
import { type CacheLifetime, cacheLifetime } from './refresh-schedule.ts';
import type { ResultStore } from './result-store.ts';

/** An authenticated token as it is cached. */
export interface CachedResult extends Authenticated, CacheLifetime {
  /** The `exp` claim, in seconds since the epoch; `undefined` if the token has none. */
  readonly expiresAt: number | undefined;
  /** Set once a refresh is scheduled: each cached result is refreshed at most once. */
  refreshing: boolean;
}

export interface CachedResultsOptions {
  readonly authenticatedStore: ResultStore<CachedResult>;
  readonly rejectedStore: ResultStore<Rejected>;
  /** How long a rejection is cached, in milliseconds; 0 caches none. */
  readonly negativeTtlMs: number;
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

/** The cached results of one cache. */
export interface CachedResults {
  /**
   * Returns the cached result unless its token has expired. The store's monotonic clock does not
   * suffice: it stops while the machine is suspended.
   */
  getUnexpired(key: CacheKey): CachedResult | undefined;
  getRejection(key: CacheKey): Rejected | undefined;
  /** Whether the result is still cached: it was neither evicted nor replaced. */
  isCurrent(key: CacheKey, cached: CachedResult): boolean;
  /** Stores a result, unless it is an outage. @returns the result to answer with. */
  store(key: CacheKey, token: Token, result: AuthResult): AuthResult;
}

/**
 * Creates the cached results. An authenticated result and a rejection with the same key replace
 * each other.
 */
export function createCachedResults(options: CachedResultsOptions): CachedResults {
  const {
    authenticatedStore,
    rejectedStore,
    negativeTtlMs,
    now = () => performance.now(),
    wallClock = Date.now,
  } = options;
  const storeAuthenticated = createResultWriter(options);
  return {
    getUnexpired(key) {
      const cached = authenticatedStore.get(key);
      return cached === undefined || isExpired(cached, wallClock()) ? undefined : cached;
    },
    getRejection: key => rejectedStore.get(key),
    isCurrent: (key, cached) => authenticatedStore.get(key) === cached,
    store(key, token, result) {
      switch (result.kind) {
        case 'authenticated':
          rejectedStore.delete(key);
          return storeAuthenticated(key, token, result);
        case 'rejected':
          authenticatedStore.delete(key);
          rejectedStore.set(
            key,
            result,
            Math.min(negativeTtlMs, (result.keepUntil ?? Number.POSITIVE_INFINITY) - now()),
          );
          return result;
        case 'unavailable':
          return result;
      }
    },
  };
}

/** Whether the token has expired. @param wallClockMs milliseconds since the epoch. */
function isExpired({ expiresAt }: CachedResult, wallClockMs: number): boolean {
  return expiresAt !== undefined && wallClockMs >= expiresAt * 1000;
}

/**
 * Caches authenticated tokens for the TTL plus the stale-if-error period, but never past the
 * token's `exp`.
 *
 * @returns a function that returns the stored object, so all requests get the same instance.
 */
function createResultWriter(
  options: CachedResultsOptions,
): (key: CacheKey, token: Token, result: Authenticated) => Authenticated {
  const { authenticatedStore, ttlMs, cacheStaleIfErrorMs, cacheRefreshAhead } = options;
  const { now = () => performance.now(), wallClock = Date.now } = options;
  const intern = identityInterner();
  return (key, token, result) => {
    if (ttlMs === 0) return result;
    const expiresAtMs = readClaims(token)?.expiresAtMs;
    const expiresAt = expiresAtMs === undefined ? undefined : expiresAtMs / 1000;
    const tokenLifetimeMs = (expiresAtMs ?? Number.POSITIVE_INFINITY) - wallClock();
    const { freshUntil, refreshAfter } = cacheLifetime({
      startedAt: now(),
      ttlMs,
      tokenLifetimeMs,
      cacheRefreshAhead,
    });
    const identity = intern(result.identity);
    const cached: CachedResult = {
      kind: 'authenticated',
      identity,
      freshUntil,
      refreshAfter,
      expiresAt,
      refreshing: false,
    };
    authenticatedStore.set(key, cached, Math.min(ttlMs + cacheStaleIfErrorMs, tokenLifetimeMs));
    return cached;
  };
}
