/** How many reviews may be under way at once, now. */
export interface ReviewLimit {
  readonly current: number;
  /** The API server answered a review: it bears what it has. */
  answered(): void;
  /** The API server asked for less of a review that was begun at `startedAt`. */
  throttled(startedAt: number): void;
}

/**
 * Additive increase, multiplicative decrease, as TCP does it: half after each wave of "too many requests", and one more
 * after as many answers as are allowed at once. Reviews that were under way when the limit fell belong to the same wave
 * and do not lower it again.
 *
 * @param max the limit to begin with, and the highest.
 */
export function reviewLimit(max: number, now: () => number): ReviewLimit {
  let limit = max;
  let loweredAt = Number.NEGATIVE_INFINITY;
  return {
    get current() {
      return Math.floor(limit);
    },
    answered() {
      limit = Math.min(max, limit + 1 / limit);
    },
    throttled(startedAt) {
      if (startedAt <= loweredAt) return;
      loweredAt = now();
      limit = Math.max(1, limit / 2);
    },
  };
}
