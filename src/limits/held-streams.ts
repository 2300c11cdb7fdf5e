import type { Budget } from './budget.ts';
import { type Listed, OldestFirst } from './oldest-first.ts';

/** How long a stream must have waited before it may be given up for another, in milliseconds: clients need some time. */
const MIN_WAIT_MS = 1_000;

/** How many streams for which there was no room may wait for their clients to read why. */
const MAX_UNRESERVED = 256;

/** An open HTTP/2 stream, and what it holds. */
export abstract class HeldStream implements Listed<HeldStream> {
  older: HeldStream | undefined;
  newer: HeldStream | undefined;
  isListed = false;
  /** The list in which it is. Only {@link HeldStreams} writes this. */
  waitsIn: OldestFirst<HeldStream> | undefined;
  heldBytes = 0;
  /** Whether a request on the same connection has been allowed. */
  abstract readonly hasBeenAllowed: boolean;
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
  readonly #unreserved = new OldestFirst<HeldStream>();
  #givenUp: HeldStream[] = [];

  constructor(budget: Budget, now: () => number, minWaitMs: number = MIN_WAIT_MS) {
    this.#minWaitMs = minWaitMs;
    this.#budget = budget;
    this.#now = now;
  }

  /** Reserves more for a stream. @returns false if there is no room even after giving up all that wait. */
  hold(stream: HeldStream, bytes: number): boolean {
    while (!this.#budget.tryReserve(bytes, stream.hasBeenAllowed)) {
      const { oldest } = this.#waiting;
      if (oldest === undefined || oldest === stream || !this.#hasWaited(oldest, this.#minWaitMs)) return false;
      this.#giveUp(oldest);
    }
    stream.heldBytes += bytes;
    return true;
  }

  /** Releases all that the stream holds. */
  release(stream: HeldStream): void {
    this.waitsNoMore(stream);
    this.#budget.release(stream.heldBytes);
    stream.heldBytes = 0;
  }

  /** From now on gatecar waits for the rest of the client's message. */
  waits(stream: HeldStream): void {
    this.#wait(stream, this.#waiting);
  }

  /**
   * From now on gatecar waits for the client to read its answer.
   *
   * @param bytes that the stream takes. If there is no room for them, it is one of a few that wait all the same.
   */
  waitsForReader(stream: HeldStream, bytes: number): void {
    this.waitsNoMore(stream);
    const isReserved = stream.heldBytes > 0 || this.hold(stream, bytes);
    this.#wait(stream, isReserved ? this.#waiting : this.#unreserved);
    if (this.#unreserved.size > MAX_UNRESERVED) this.#giveUp(this.#unreserved.oldest as HeldStream);
  }

  waitsNoMore(stream: HeldStream): void {
    stream.waitsIn?.remove(stream);
    stream.waitsIn = undefined;
  }

  /** Gives up the streams that have waited for longer than `maxMs`. */
  expire(maxMs: number): void {
    for (const list of [this.#waiting, this.#unreserved]) {
      for (let { oldest } = list; oldest !== undefined && this.#hasWaited(oldest, maxMs); { oldest } = list) {
        this.#giveUp(oldest);
      }
    }
  }

  #wait(stream: HeldStream, list: OldestFirst<HeldStream>): void {
    this.waitsNoMore(stream);
    stream.waitsSinceMs = this.#now();
    stream.waitsIn = list;
    list.add(stream);
  }

  #hasWaited({ waitsSinceMs }: HeldStream, ms: number): boolean {
    return waitsSinceMs <= this.#now() - ms;
  }

  /**
   * Its end comes later, and what it held is needed now. Giving up may leave an answer for the client to read, for which
   * there may be no room without giving up others, so that they are given up one after the other.
   */
  #giveUp(stream: HeldStream): void {
    this.release(stream);
    if (this.#givenUp.push(stream) === 1) process.nextTick(this.#endGivenUp);
  }

  readonly #endGivenUp = (): void => {
    const streams = this.#givenUp;
    this.#givenUp = [];
    for (const stream of streams) stream.giveUp();
  };
}
