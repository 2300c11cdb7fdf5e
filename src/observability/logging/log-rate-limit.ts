import { LRUCache } from 'lru-cache';

export interface LogRateLimiterOptions {
  /** How many equal lines are written in full in each window. */
  readonly burst: number;
  readonly windowMs: number;
  /**
   * How many kinds of line are tracked. The least recently used kind is evicted, after its count is
   * reported.
   */
  readonly maxKinds: number;
  /** Called at the end of a window in which lines were suppressed. */
  readonly onSummary: (kind: string, suppressed: number) => void;
  readonly now?: () => number;
}

/**
 * Lets the first lines of each kind through and counts the rest. A flood then costs few lines per
 * window and does not fill a disk.
 */
export interface LogRateLimiter {
  /** Returns whether a line of this kind is to be written now. */
  admit(kind: string): boolean;
  /** Reports and closes every window that has ended, or all windows with `force`. */
  sweep(force?: boolean): void;
}

interface Window {
  readonly openedAt: number;
  count: number;
}

/**
 * Creates a rate limiter. The window of a kind opens with its first line. It ends at the first
 * {@link LogRateLimiter.sweep} or line after `windowMs`.
 */
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
