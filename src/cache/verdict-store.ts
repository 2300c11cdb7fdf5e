import { LRUCache } from 'lru-cache';
import type { CacheKey } from './key.ts';

/** Why an entry left. `replaced` and `expired` are the everyday; `capacity` says the store is too small. */
export type EvictionCause = 'capacity' | 'expired';

/** At how many entries one question for their number looks: a million would hold the event loop for most of a second. */
export const MAX_LOOKS = 20_000;

export interface VerdictStoreOptions {
  readonly maxEntries: number;
  readonly onEviction?: (cause: EvictionCause) => void;
  /** Milliseconds on a clock that never goes back; the production default is `performance`. */
  readonly clock?: { now(): number };
}

/** A bounded store of verdicts, each with a time to live. */
export interface VerdictStore<V extends object> {
  get(key: CacheKey): V | undefined;
  /** Keeps a verdict for `ttlMs`; not at all where that is not positive. */
  set(key: CacheKey, verdict: V, ttlMs: number): void;
  delete(key: CacheKey): void;
  /** Entries that are alive; of more than {@link MAX_LOOKS} held, all. Asking drops those that are not, and costs a look at each. */
  readonly size: number;
}

/** The least recently used entry makes room when the store is full. */
export function verdictStore<V extends object>(options: VerdictStoreOptions): VerdictStore<V> {
  const { maxEntries, onEviction = () => {}, clock = performance } = options;
  const entries = new LRUCache<CacheKey, V>({
    max: maxEntries,
    perf: clock,
    // Each look-up reads the clock; the default would keep a timer running instead, and serve up to its resolution late.
    ttlResolution: 0,
    dispose: (_verdict, key, reason) => {
      // What makes room may have been dead for long: then the store was not too small.
      if (reason === 'evict' && entries.getRemainingTTL(key) > 0) onEviction('capacity');
      else if (reason === 'evict' || reason === 'expire') onEviction('expired');
    },
  });
  return {
    get: key => entries.get(key),
    set(key, verdict, ttlMs) {
      if (ttlMs > 0) entries.set(key, verdict, { ttl: ttlMs });
    },
    delete: key => {
      entries.delete(key);
    },
    get size() {
      if (entries.size <= MAX_LOOKS) entries.purgeStale();
      return entries.size;
    },
  };
}
