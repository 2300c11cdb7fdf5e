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

/**
 * For how many entries there is room at first, and after that. An LRUCache takes 56 bytes for each entry that it may have, at once,
 * and a sidecar has a handful where ten thousand are allowed. From the last step it goes to all of it: to move more entries would
 * hold the event loop, and so would arrays for more than {@link MAX_GROWN}, which are made at the start.
 */
const ROOMS = [512, 4_096, 16_384];
const MAX_GROWN = 100_000;

/** Above this part of the room being alive, there is too little of it. */
const WORTH_IT = 7 / 8;

/** The least recently used entry makes room when the store is full. */
export function verdictStore<V extends object>(options: VerdictStoreOptions): VerdictStore<V> {
  const { maxEntries, onEviction = () => {}, clock = performance } = options;
  const rooms = maxEntries > MAX_GROWN ? [] : ROOMS;
  const room = (atLeast: number): number => Math.min(rooms.find(one => one >= atLeast) ?? maxEntries, maxEntries);
  const withRoomFor = (max: number): LRUCache<CacheKey, V> => {
    const made = new LRUCache<CacheKey, V>({
      max,
      perf: clock,
      // Each look-up reads the clock; the default would keep a timer running instead, and serve up to its resolution late.
      ttlResolution: 0,
      dispose: (_verdict, key, reason) => {
        // What makes room may have been dead for long: then the store was not too small.
        if (reason === 'evict' && made.getRemainingTTL(key) > 0) onEviction('capacity');
        else if (reason === 'evict' || reason === 'expire') onEviction('expired');
      },
    });
    return made;
  };
  let entries = withRoomFor(room(1));
  const grow = (): void => {
    entries.purgeStale();
    // Looking at all of them has to be worth it: else each new one that comes as an old one goes would have them looked at again.
    if (entries.size <= entries.max * WORTH_IT) return;
    const larger = withRoomFor(room(entries.max + 1));
    // At the very end of its time nothing remains, which to the LRUCache is a time without end.
    const remaining = (key: CacheKey): number => Math.max(entries.getRemainingTTL(key), Number.MIN_VALUE);
    entries.rforEach((verdict, key) => larger.set(key, verdict, { ttl: remaining(key) }));
    entries = larger;
  };
  return {
    get: key => entries.get(key),
    set(key, verdict, ttlMs) {
      if (!(ttlMs > 0)) return;
      if (entries.size === entries.max && entries.max < maxEntries && !entries.has(key)) grow();
      entries.set(key, verdict, { ttl: ttlMs });
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
