/** When a verdict's life is nearly over, as parts of it: renewing later than the first, and by the last, asks little more often than its end would. */
const REFRESH_WINDOW_START = 0.8;
const REFRESH_EARLIEST = 0.88;
const REFRESH_LATEST = 0.98;

/**
 * The life of a yes: milliseconds on a clock that never goes back, whole ones, which take no room beside the verdict that has them
 * (for the first 24 days of that clock).
 */
export interface CacheLifetime {
  /** Past this it is stale. */
  readonly freshUntil: number;
  /** A use past this has it renewed; later than its end where it is not to be. */
  readonly renewFrom: number;
}

export interface CacheLifetimeOptions {
  readonly startedAt: number;
  readonly ttlMs: number;
  /** How much longer the token lives by its own word. */
  readonly tokenLifetimeMs: number;
  readonly refreshAhead: boolean;
}

/** A token that ends before its verdict would is not renewed: nothing but its end can be learned. */
export function cacheLifetime({
  startedAt,
  ttlMs,
  tokenLifetimeMs,
  refreshAhead,
}: CacheLifetimeOptions): CacheLifetime {
  const freshUntil = Math.floor(startedAt + Math.min(ttlMs, tokenLifetimeMs));
  const isRenewed = refreshAhead && tokenLifetimeMs > ttlMs;
  return { freshUntil, renewFrom: isRenewed ? Math.floor(startedAt + ttlMs * REFRESH_WINDOW_START) : freshUntil + 1 };
}

/**
 * When a renewal is due, on the clock of its life.
 *
 * @param jitter from 0 up to 1. Verdicts that came at once must not be renewed at once, again and again.
 */
export function refreshTime({ freshUntil, renewFrom }: CacheLifetime, jitter: number): number {
  const part = REFRESH_EARLIEST + (REFRESH_LATEST - REFRESH_EARLIEST) * jitter;
  return renewFrom + ((freshUntil - renewFrom) * (part - REFRESH_WINDOW_START)) / (1 - REFRESH_WINDOW_START);
}
