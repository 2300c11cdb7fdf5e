import { THROTTLE_AFTER_VALID_MS } from '../limits/constants.ts';

export interface RejectionThrottleOptions {
  /** How many rejections are sent per interval, and the interval in milliseconds. */
  readonly atOnce: number;
  readonly everyMs: number;
  /** How many rejections may wait. Further ones are sent immediately. */
  readonly maxWaiting: number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
  readonly now?: () => number;
}

/** Delays rejections of invalid tokens. */
export interface RejectionThrottle {
  /** Records that a token with a valid signature was seen: there is traffic to protect. */
  noteValidTraffic(): void;
  /** Whether such a token was seen within the last second. */
  readonly protecting: boolean;
  /**
   * Waits until the rejection may be sent, at most until `signal` aborts. After that, the caller
   * would see a timeout, and stale-if-error could allow a token that the API server has just
   * rejected.
   *
   * @returns `undefined` if the rejection may be sent immediately.
   */
  waitForSlot(signal?: AbortSignal): Promise<void> | undefined;
}

/**
 * Limits the rate of rejections while valid tokens are in use. A client that floods invalid tokens
 * sends the next request when the previous one is answered. Delayed answers therefore limit its
 * share of the event loop.
 *
 * Nothing waits if there is no valid traffic, or if `maxWaiting` rejections wait already.
 */
export function createRejectionThrottle(options: RejectionThrottleOptions): RejectionThrottle {
  const { atOnce, everyMs, maxWaiting, now = () => performance.now() } = options;
  const { setTimer = (callback, ms) => setTimeout(callback, ms).unref() } = options;
  const waiting = new Set<() => void>();
  let protectUntil = Number.NEGATIVE_INFINITY;
  let isTelling = false;

  const tellSoon = (): void => {
    if (isTelling || waiting.size === 0) return;
    isTelling = true;
    setTimer(tell, everyMs);
  };
  const tell = (): void => {
    isTelling = false;
    let told = 0;
    for (const next of waiting) {
      if (told === atOnce) break;
      next();
      told += 1;
    }
    tellSoon();
  };

  const pace: RejectionThrottle = {
    noteValidTraffic() {
      protectUntil = now() + THROTTLE_AFTER_VALID_MS;
    },
    get protecting() {
      return now() < protectUntil;
    },
    waitForSlot(signal) {
      if (!pace.protecting || waiting.size >= maxWaiting || signal?.aborted) return undefined;
      return new Promise(resolve => {
        const told = (): void => {
          waiting.delete(told);
          signal?.removeEventListener('abort', told);
          resolve();
        };
        waiting.add(told);
        signal?.addEventListener('abort', told, { once: true });
        tellSoon();
      });
    },
  };
  return pace;
}
