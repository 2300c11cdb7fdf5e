/** How many reviews may be under way at once, now. */
export interface AdaptiveLimit {
  readonly current: number;
  /** The API server answered a review: it bears what it has. */
  onSuccess(): void;
  /** The API server asked for less of a review that was begun at `startedAt`. */
  onThrottled(startedAt: number): void;
}

/**
 * Additive increase, multiplicative decrease, as TCP does it: half after each wave of "too many requests", and one more
 * after as many answers as are allowed at once. Reviews that were under way when the limit fell belong to the same wave
 * and do not lower it again.
 *
 * @param max the limit to begin with, and the highest.
 */
export function aimdLimit(max: number, now: () => number): AdaptiveLimit {
  let limit = max;
  let loweredAt = Number.NEGATIVE_INFINITY;
  return {
    get current() {
      return Math.floor(limit);
    },
    onSuccess() {
      limit = Math.min(max, limit + 1 / limit);
    },
    onThrottled(startedAt) {
      if (startedAt <= loweredAt) return;
      loweredAt = now();
      limit = Math.max(1, limit / 2);
    },
  };
}
