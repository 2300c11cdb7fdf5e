import type { Budget } from './budget.ts';
import { type Listed, OldestFirst } from './oldest-first.ts';

/** How long a stream must have waited before it may be given up for another, in milliseconds: clients need some time. */
const MIN_WAIT_MS = 1_000;

/** An open HTTP/2 stream, and what it holds. */
export abstract class HeldStream implements Listed<HeldStream> {
  older: HeldStream | undefined;
  newer: HeldStream | undefined;
  isListed = false;
  heldBytes = 0;
  /** Since when gatecar waits for its client, on the clock of {@link HeldStreams}. */
  waitsSinceMs = 0;
  /** Ends the wait: answers the request with what is known of it, or closes the stream if it has been answered. */
  abstract giveUp(): void;
}

/**
 * The open streams of all connections of a listener. Each reserves what it holds from the budget. If there is too little,
 * those that have waited longest for their client (the rest of a message, or that an answer is read) are given up first.
 */
export class HeldStreams {
  readonly #minWaitMs: number;
  readonly #budget: Budget;
  readonly #now: () => number;
  readonly #waiting = new OldestFirst<HeldStream>();

  constructor(budget: Budget, now: () => number, minWaitMs: number = MIN_WAIT_MS) {
    this.#minWaitMs = minWaitMs;
    this.#budget = budget;
    this.#now = now;
  }

  /** Reserves more for a stream. @returns false if there is no room even after giving up all that wait. */
  hold(stream: HeldStream, bytes: number): boolean {
    while (!this.#budget.tryReserve(bytes)) {
      const { oldest } = this.#waiting;
      if (oldest === undefined || oldest === stream || !this.#hasWaited(oldest, this.#minWaitMs)) return false;
      this.#giveUp(oldest);
    }
    stream.heldBytes += bytes;
    return true;
  }

  /** Releases all that the stream holds. */
  release(stream: HeldStream): void {
    this.#waiting.remove(stream);
    this.#budget.release(stream.heldBytes);
    stream.heldBytes = 0;
  }

  /** From now on gatecar waits for the client. */
  waits(stream: HeldStream): void {
    this.#waiting.remove(stream);
    stream.waitsSinceMs = this.#now();
    this.#waiting.add(stream);
  }

  waitsNoMore(stream: HeldStream): void {
    this.#waiting.remove(stream);
  }

  /** Gives up the streams that have waited for longer than `maxMs`. */
  expire(maxMs: number): void {
    for (let { oldest } = this.#waiting; oldest !== undefined; { oldest } = this.#waiting) {
      if (!this.#hasWaited(oldest, maxMs)) return;
      this.#giveUp(oldest);
    }
  }

  #hasWaited({ waitsSinceMs }: HeldStream, ms: number): boolean {
    return waitsSinceMs <= this.#now() - ms;
  }

  #giveUp(stream: HeldStream): void {
    // Its end comes later, and what it held is needed now. Giving up may leave an answer for the client to read.
    this.release(stream);
    stream.giveUp();
  }
}
