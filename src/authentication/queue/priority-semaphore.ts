import type { Priority } from '../token-authenticator.ts';

export interface PrioritySemaphoreOptions {
  /** Number of slots for all priorities together. It may change. */
  readonly limit: () => number;
  /**
   * How many `verified` and `unverified` callers may wait together. The same number of refreshes
   * may wait in addition.
   */
  readonly maxQueue: number;
  /** The fraction of slots and queue that `unverified` may use. It may change. */
  readonly unverifiedShare: () => number;
  /** Returns how many slots of that share `unverified` may use now. */
  readonly unverifiedSlots?: (share: number) => number;
}

/** Assigns slots by priority. */
export interface PrioritySemaphore {
  /** Takes a slot if one is free and no caller of the same priority waits. */
  tryAcquire(priority: Priority): boolean;
  /** Releases a slot, or hands it to the next waiting caller. */
  release(priority: Priority): void;
  /**
   * Queues a caller.
   *
   * @param onTurn called once, when the caller has received a slot.
   * @returns a function that removes the caller from the queue.
   */
  enqueue(priority: Priority, onTurn: () => void): () => void;
  isFull(priority: Priority): boolean;
  /** The highest number of slots that a priority may use now. */
  capacity(priority: Priority): number;
  inFlight(priority: Priority): number;
  queued(priority: Priority): number;
  /** While paused, only `verified` callers get slots. */
  pauseLowPriority(paused: boolean): void;
}

const ORDER: readonly Priority[] = ['verified', 'unverified', 'refresh'];

/**
 * Creates a semaphore with strict priority in the order verified, unverified, refresh. Within a
 * priority, the first caller goes first. `unverified` never uses more than its share, which is at
 * least one slot. Unverified callers therefore cannot take the other slots. Refreshes can, but
 * waiting clients are served before waiting refreshes.
 */
export function prioritySemaphore(options: PrioritySemaphoreOptions): PrioritySemaphore {
  const { limit, maxQueue, unverifiedShare, unverifiedSlots = share => share } = options;
  const inFlight: Record<Priority, number> = { verified: 0, unverified: 0, refresh: 0 };
  const waiting: Record<Priority, Set<() => void>> = { verified: new Set(), unverified: new Set(), refresh: new Set() };
  let isPaused = false;

  const capacity = (priority: Priority): number =>
    priority === 'unverified' ? unverifiedSlots(Math.max(1, Math.floor(limit() * unverifiedShare()))) : limit();
  const totalInFlight = (): number => inFlight.verified + inFlight.unverified + inFlight.refresh;
  const canAcquire = (priority: Priority): boolean =>
    totalInFlight() < limit() && inFlight[priority] < capacity(priority) && (priority === 'verified' || !isPaused);
  /** Hands slots over directly: a new caller must not overtake those that wait. */
  const dispatch = (): void => {
    for (const priority of ORDER) {
      for (const next of waiting[priority]) {
        if (!canAcquire(priority)) break;
        waiting[priority].delete(next);
        inFlight[priority] += 1;
        next();
      }
    }
  };

  return {
    capacity,
    tryAcquire(priority) {
      if (waiting[priority].size > 0 || !canAcquire(priority)) return false;
      inFlight[priority] += 1;
      return true;
    },
    release(priority) {
      inFlight[priority] -= 1;
      dispatch();
    },
    enqueue(priority, onTurn) {
      const next = () => onTurn();
      waiting[priority].add(next);
      return () => {
        waiting[priority].delete(next);
      };
    },
    isFull(priority) {
      // No client waits for a refresh, so refreshes take no queue capacity from clients.
      if (priority === 'refresh') return waiting.refresh.size >= maxQueue;
      if (waiting.verified.size + waiting.unverified.size >= maxQueue) return true;
      return priority === 'unverified' && waiting.unverified.size >= Math.ceil(maxQueue * unverifiedShare());
    },
    inFlight: priority => inFlight[priority],
    queued: priority => waiting[priority].size,
    pauseLowPriority(paused) {
      isPaused = paused;
      if (!isPaused) dispatch();
    },
  };
}
