export interface RefusalPaceOptions {
  /** How many refusals are told in a millisecond. */
  readonly perMs: number;
  /** How many wait at the most; one more is told at once. */
  readonly maxWaiting: number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
  readonly now?: () => number;
}

/** Who made up a token can wait for being told. */
export interface RefusalPace {
  /** A good token was asked about: there is somebody to protect. */
  good(): void;
  /** Whether that was within the last second. */
  readonly protecting: boolean;
  /** Settles when a refusal may be told; `undefined` where that is at once. */
  turn(): Promise<void> | undefined;
}

/** How long after a good token's question refusals are still paced, in milliseconds. */
const PROTECT_MS = 1000;

/**
 * Tells refusals no faster than a part of the event loop can bear, as long as good tokens are asked about too: whoever
 * sends junk on so many connections sends the next when the last is answered, and would have all the time there is. Where
 * nobody else asks, and past the bound, nothing waits.
 */
export function refusalPace(options: RefusalPaceOptions): RefusalPace {
  const { perMs, maxWaiting, now = () => performance.now() } = options;
  const { setTimer = (callback, ms) => setTimeout(callback, ms).unref() } = options;
  const waiting = new Set<() => void>();
  let protectUntil = Number.NEGATIVE_INFINITY;

  const tell = (): void => {
    let told = 0;
    for (const next of waiting) {
      if (told === perMs) break;
      waiting.delete(next);
      next();
      told += 1;
    }
    if (waiting.size > 0) setTimer(tell, 1);
  };

  const pace: RefusalPace = {
    good() {
      protectUntil = now() + PROTECT_MS;
    },
    get protecting() {
      return now() < protectUntil;
    },
    turn() {
      if (!pace.protecting || waiting.size >= maxWaiting) return undefined;
      return new Promise(resolve => {
        if (waiting.size === 0) setTimer(tell, 1);
        waiting.add(resolve);
      });
    },
  };
  return pace;
}
