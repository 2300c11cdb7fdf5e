import type { Priority } from '../token-authenticator.ts';

export interface PrioritySemaphoreOptions {
  /** How many may be in at once, all priorities together; it may change. */
  readonly limit: () => number;
  /** How many may wait, both priorities that somebody waits for together; as many renewals beside. */
  readonly maxQueue: number;
  /** The part of both that `unverified` may take; it may change. */
  readonly unverifiedShare: () => number;
  /** How many of the places of that share it has now. */
  readonly unverifiedPlaces?: (share: number) => number;
}

/** Who may go in, and who is next. */
export interface PrioritySemaphore {
  /** Takes a place, if there is one and nobody waits for it. */
  enter(priority: Priority): boolean;
  /** Gives a place back, or hands it to who is next. */
  leave(priority: Priority): void;
  /**
   * Queues up.
   *
   * @param onTurn called once, when a place has been handed over.
   * @returns what gives the place in the queue up.
   */
  wait(priority: Priority, onTurn: () => void): () => void;
  isFull(priority: Priority): boolean;
  /** How many places a priority can have at the most, now. */
  places(priority: Priority): number;
  inFlight(priority: Priority): number;
  queued(priority: Priority): number;
  /** While held, only `verified` goes in. */
  hold(held: boolean): void;
}

const ORDER: readonly Priority[] = ['verified', 'unverified', 'refresh'];

/**
 * Strict priority in the order verified, unverified, refresh; first come, first served within a priority. `unverified` never
 * takes more than its share (but one place at the least), and so leaves the rest to the first priority whatever comes.
 */
export function prioritySemaphore(options: PrioritySemaphoreOptions): PrioritySemaphore {
  const { limit, maxQueue, unverifiedShare, unverifiedPlaces = share => share } = options;
  const inFlight: Record<Priority, number> = { verified: 0, unverified: 0, refresh: 0 };
  const waiting: Record<Priority, Set<() => void>> = {
    verified: new Set(),
    unverified: new Set(),
    refresh: new Set(),
  };
  let held = false;

  const places = (priority: Priority): number =>
    priority === 'unverified' ? unverifiedPlaces(Math.max(1, Math.floor(limit() * unverifiedShare()))) : limit();
  const inAll = (): number => inFlight.verified + inFlight.unverified + inFlight.refresh;
  const mayEnter = (priority: Priority): boolean =>
    inAll() < limit() && inFlight[priority] < places(priority) && (priority === 'verified' || !held);
  /** The places are handed over and never free in between, or a newcomer could take them as well. */
  const admit = (): void => {
    for (const priority of ORDER) {
      for (const next of waiting[priority]) {
        if (!mayEnter(priority)) break;
        waiting[priority].delete(next);
        inFlight[priority] += 1;
        next();
      }
    }
  };

  return {
    places,
    enter(priority) {
      if (waiting[priority].size > 0 || !mayEnter(priority)) return false;
      inFlight[priority] += 1;
      return true;
    },
    leave(priority) {
      inFlight[priority] -= 1;
      admit();
    },
    wait(priority, onTurn) {
      const next = () => onTurn();
      waiting[priority].add(next);
      return () => {
        waiting[priority].delete(next);
      };
    },
    isFull(priority) {
      // Nobody waits for a renewal: those take no room from whom somebody waits for.
      if (priority === 'refresh') return waiting.refresh.size >= maxQueue;
      if (waiting.verified.size + waiting.unverified.size >= maxQueue) return true;
      return priority === 'unverified' && waiting.unverified.size >= Math.ceil(maxQueue * unverifiedShare());
    },
    inFlight: priority => inFlight[priority],
    queued: priority => waiting[priority].size,
    hold(now) {
      held = now;
      if (!held) admit();
    },
  };
}
