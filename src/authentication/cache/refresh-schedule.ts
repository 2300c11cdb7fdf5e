import { REFRESH_EARLIEST, REFRESH_LATEST, REFRESH_WINDOW_START } from '../../limits/constants.ts';

/**
 * The lifetime of an authenticated result, in milliseconds on a monotonic clock. The values are
 * whole numbers: V8 stores small integers inside the object (for the first 24 days of that clock).
 */
export interface CacheLifetime {
  /** After this time the result is stale. */
  readonly freshUntil: number;
  /**
   * A use after this time schedules a refresh. Later than `freshUntil` if the result is not
   * refreshed.
   */
  readonly refreshAfter: number;
}

export interface CacheLifetimeOptions {
  readonly startedAt: number;
  readonly ttlMs: number;
  /** Remaining lifetime of the token by its `exp` claim, in milliseconds. */
  readonly tokenLifetimeMs: number;
  readonly cacheRefreshAhead: boolean;
}

/**
 * Computes the lifetime of a result. A token that expires within the TTL is not refreshed: a review
 * could not extend its life.
 */
export function cacheLifetime({
  startedAt,
  ttlMs,
  tokenLifetimeMs,
  cacheRefreshAhead,
}: CacheLifetimeOptions): CacheLifetime {
  const freshUntil = Math.floor(startedAt + Math.min(ttlMs, tokenLifetimeMs));
  const isRenewed = cacheRefreshAhead && tokenLifetimeMs > ttlMs;
  return {
    freshUntil,
    refreshAfter: isRenewed ? Math.floor(startedAt + ttlMs * REFRESH_WINDOW_START) : freshUntil + 1,
  };
}

/**
 * Returns when a refresh is due, on the clock of the lifetime.
 *
 * @param jitter from 0 up to 1. It spreads the refreshes of results that were stored at the same
 *   time.
 */
export function refreshTime({ freshUntil, refreshAfter }: CacheLifetime, jitter: number): number {
  const part = REFRESH_EARLIEST + (REFRESH_LATEST - REFRESH_EARLIEST) * jitter;
  return refreshAfter + ((freshUntil - refreshAfter) * (part - REFRESH_WINDOW_START)) / (1 - REFRESH_WINDOW_START);
}
