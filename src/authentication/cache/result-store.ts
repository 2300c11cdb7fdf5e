import { LRUCache } from 'lru-cache';
import { MAX_EXACT_COUNT } from '../../limits/constants.ts';
import type { CacheKey } from './cache-key.ts';

/** Why an entry was removed. `expired` is normal. `capacity` means that the store is too small. */
export type EvictionCause = 'capacity' | 'expired';

export interface ResultStoreOptions {
  readonly maxEntries: number;
  readonly onEviction?: (cause: EvictionCause) => void;
  /** A monotonic clock in milliseconds. The default is `performance`. */
  readonly clock?: { now(): number };
}

/** A bounded store of results, each with its own time to live. */
export interface ResultStore<V extends object> {
  get(key: CacheKey): V | undefined;
  /** Stores a result for `ttlMs` milliseconds. Does nothing if `ttlMs` is not positive. */
  set(key: CacheKey, result: V, ttlMs: number): void;
  delete(key: CacheKey): void;
  /** Number of live entries. Above {@link MAX_EXACT_COUNT} it includes expired ones. */
  readonly size: number;
}

/**
 * Creates a store for `maxEntries`. A full store drops the least recently used entry. The arrays
 * of the LRUCache are allocated at once for all entries, at 56 bytes each.
 */
export function createResultStore<V extends object>(options: ResultStoreOptions): ResultStore<V> {
  const { maxEntries, onEviction = () => {}, clock = performance } = options;
  const entries: LRUCache<CacheKey, V> = new LRUCache({
    max: maxEntries,
    perf: clock,
    // Each look-up reads the clock. The default runs a timer and serves entries up to 1 ms past
    // their TTL.
    ttlResolution: 0,
    dispose: (_verdict, key, reason) => {
      // An expired entry may be evicted for a new one. The store was then not too small.
      if (reason === 'evict' && entries.getRemainingTTL(key) > 0) onEviction('capacity');
      else if (reason === 'evict' || reason === 'expire') onEviction('expired');
    },
  });
  return {
    get: key => entries.get(key),
    set(key, result, ttlMs) {
      if (ttlMs > 0) entries.set(key, result, { ttl: ttlMs });
    },
    delete(key) {
      entries.delete(key);
    },
    get size() {
      if (entries.size <= MAX_EXACT_COUNT) entries.purgeStale();
      return entries.size;
    },
  };
}
