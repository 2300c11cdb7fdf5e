export interface RejectionThrottleOptions {
  /** How many refusals are told at once, and how long until the next are, in milliseconds. */
  readonly atOnce: number;
  readonly everyMs: number;
  /** How many wait at the most; one more is told at once. */
  readonly maxWaiting: number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
  readonly now?: () => number;
}

/** Who made up a token can wait for being told. */
export interface RejectionThrottle {
  /** A good token was asked about: there is somebody to protect. */
  noteValidTraffic(): void;
  /** Whether that was within the last second. */
  readonly protecting: boolean;
  /**
   * Settles when a refusal may be told, at its signal at the latest; `undefined` where that is at once. Told later, it would
   * be taken for an outage, and by grace for leave to let in whom the API server has just refused.
   */
  waitForSlot(signal?: AbortSignal): Promise<void> | undefined;
}

/** How long after a good token's question refusals are still paced, in milliseconds. */
const ACTIVE_AFTER_VALID_MS = 1000;

/**
 * Tells refusals no faster than a part of the event loop can bear, as long as good tokens are asked about too: whoever
 * sends junk on so many connections sends the next when the last is answered, and would have all the time there is. Where
 * nobody else asks, and past the bound, nothing waits.
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
      protectUntil = now() + ACTIVE_AFTER_VALID_MS;
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
