import type { Lane } from '../token-authenticator.ts';

export interface LanesOptions {
  /** How many may be in at once, all lanes together; it may change. */
  readonly limit: () => number;
  /** How many may wait, both lanes that somebody waits for together; as many renewals beside. */
  readonly maxQueue: number;
  /** The part of both that `unverified` may take; it may change. */
  readonly unverifiedShare: () => number;
  /** How many of the places of that share it has now. */
  readonly unverifiedPlaces?: (share: number) => number;
}

/** Who may go in, and who is next. */
export interface Lanes {
  /** Takes a place, if there is one and nobody waits for it. */
  enter(lane: Lane): boolean;
  /** Gives a place back, or hands it to who is next. */
  leave(lane: Lane): void;
  /**
   * Queues up.
   *
   * @param onTurn called once, when a place has been handed over.
   * @returns what gives the place in the queue up.
   */
  wait(lane: Lane, onTurn: () => void): () => void;
  isFull(lane: Lane): boolean;
  /** How many places a lane can have at the most, now. */
  places(lane: Lane): number;
  inFlight(lane: Lane): number;
  queued(lane: Lane): number;
  /** While held, only `verified` goes in. */
  hold(held: boolean): void;
}

const ORDER: readonly Lane[] = ['verified', 'unverified', 'refresh'];

/**
 * Strict priority in the order verified, unverified, refresh; first come, first served within a lane. `unverified` never
 * takes more than its share (but one place at the least), and so leaves the rest to the first lane whatever comes.
 */
export function lanes(options: LanesOptions): Lanes {
  const { limit, maxQueue, unverifiedShare, unverifiedPlaces = share => share } = options;
  const inFlight: Record<Lane, number> = { verified: 0, unverified: 0, refresh: 0 };
  const waiting: Record<Lane, Set<() => void>> = {
    verified: new Set(),
    unverified: new Set(),
    refresh: new Set(),
  };
  let held = false;

  const places = (lane: Lane): number =>
    lane === 'unverified' ? unverifiedPlaces(Math.max(1, Math.floor(limit() * unverifiedShare()))) : limit();
  const inAll = (): number => inFlight.verified + inFlight.unverified + inFlight.refresh;
  const mayEnter = (lane: Lane): boolean =>
    inAll() < limit() && inFlight[lane] < places(lane) && (lane === 'verified' || !held);
  /** The places are handed over and never free in between, or a newcomer could take them as well. */
  const admit = (): void => {
    for (const lane of ORDER) {
      for (const next of waiting[lane]) {
        if (!mayEnter(lane)) break;
        waiting[lane].delete(next);
        inFlight[lane] += 1;
        next();
      }
    }
  };

  return {
    places,
    enter(lane) {
      if (waiting[lane].size > 0 || !mayEnter(lane)) return false;
      inFlight[lane] += 1;
      return true;
    },
    leave(lane) {
      inFlight[lane] -= 1;
      admit();
    },
    wait(lane, onTurn) {
      const next = () => onTurn();
      waiting[lane].add(next);
      return () => {
        waiting[lane].delete(next);
      };
    },
    isFull(lane) {
      // Nobody waits for a renewal: those take no room from whom somebody waits for.
      if (lane === 'refresh') return waiting.refresh.size >= maxQueue;
      if (waiting.verified.size + waiting.unverified.size >= maxQueue) return true;
      return lane === 'unverified' && waiting.unverified.size >= Math.ceil(maxQueue * unverifiedShare());
    },
    inFlight: lane => inFlight[lane],
    queued: lane => waiting[lane].size,
    hold(now) {
      held = now;
      if (!held) admit();
    },
  };
}
