import { LRUCache } from 'lru-cache';

export interface LogRateLimiterOptions {
  /** How many equal lines are written in full in each window. */
  readonly burst: number;
  readonly windowMs: number;
  /** How many kinds of line are told apart; the least recent kind is forgotten, its count told first. */
  readonly maxKinds: number;
  /** Told at the end of a window in which lines were held back. */
  readonly onSummary: (kind: string, suppressed: number) => void;
  readonly now?: () => number;
}

/** Lets the first lines of a kind through and counts the rest, so that a flood costs a line a window and not a disk. */
export interface LogRateLimiter {
  /** Whether a line of this kind is to be written now. */
  admit(kind: string): boolean;
  /** Tells and closes every window that has ended; all of them with `force`. */
  sweep(force?: boolean): void;
}

interface Window {
  readonly openedAt: number;
  count: number;
}

/** A window of a kind opens with its first line and ends by {@link LogRateLimiter.sweep}, or with the next line after its time. */
export function logRateLimiter(options: LogRateLimiterOptions): LogRateLimiter {
  const { burst, windowMs, maxKinds, onSummary, now = () => performance.now() } = options;
  const windows = new LRUCache<string, Window>({
    max: maxKinds,
    dispose: ({ count }, kind) => {
      if (count > burst) onSummary(kind, count - burst);
    },
  });
  return {
    admit(kind) {
      const window = windows.get(kind);
      if (window === undefined || now() - window.openedAt >= windowMs) {
        windows.set(kind, { openedAt: now(), count: 1 });
        return true;
      }
      window.count += 1;
      return window.count <= burst;
    },
    sweep(force = false) {
      for (const [kind, window] of windows.entries()) {
        if (force || now() - window.openedAt >= windowMs) windows.delete(kind);
      }
    },
  };
}
