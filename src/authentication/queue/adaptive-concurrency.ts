/** The current limit on concurrent reviews. */
export interface AdaptiveLimit {
  readonly current: number;
  /** Records that the API server answered a review, so it can handle the current load. */
  onSuccess(): void;
  /**
   * Records that the API server answered 429 (Too Many Requests) to a review that started at
   * `startedAt`.
   */
  onThrottled(startedAt: number): void;
}

/**
 * Creates a limit with additive increase and multiplicative decrease, as in TCP. The limit halves
 * after each wave of 429 responses. It rises by one after as many answers as may be in flight
 * at once. Reviews in flight when the limit fell belong to the same wave and do not lower it again.
 *
 * @param max the initial and highest limit.
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
