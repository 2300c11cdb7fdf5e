/** When a verdict's life is nearly over, as parts of it: renewing later than the first, and by the last, asks little more often than its end would. */
const FROM = 0.8;
const EARLIEST = 0.88;
const LATEST = 0.98;

/** The life of a yes: milliseconds on a clock that never goes back. */
export interface Life {
  /** Past this it is stale. */
  readonly freshUntil: number;
  /** A use past this has it renewed; `Infinity` where it is not to be. */
  readonly renewFrom: number;
  /** When that is done. */
  readonly renewAt: number;
}

export interface LifeOptions {
  readonly startedAt: number;
  readonly ttlMs: number;
  /** How much longer the token lives by its own word. */
  readonly tokenLifetimeMs: number;
  readonly refreshAhead: boolean;
  /** From 0 up to 1. Verdicts that came at once must not be renewed at once, again and again. */
  readonly jitter: number;
}

/** A token that ends before its verdict would is not renewed: nothing but its end can be learned. */
export function lifeOf({ startedAt, ttlMs, tokenLifetimeMs, refreshAhead, jitter }: LifeOptions): Life {
  const freshUntil = startedAt + Math.min(ttlMs, tokenLifetimeMs);
  if (!refreshAhead || tokenLifetimeMs <= ttlMs) {
    return { freshUntil, renewFrom: Number.POSITIVE_INFINITY, renewAt: Number.POSITIVE_INFINITY };
  }
  return {
    freshUntil,
    renewFrom: startedAt + ttlMs * FROM,
    renewAt: startedAt + ttlMs * (EARLIEST + (LATEST - EARLIEST) * jitter),
  };
}
