import type { Budget } from './budget.ts';
import { HELD_STREAM_MIN_WAIT_MS, MAX_GIVEN_UP_PER_TURN, MAX_UNRESERVED_STREAMS } from './constants.ts';
import { type Listed, OldestFirst } from './oldest-first.ts';

/** An open HTTP/2 stream and the memory that it holds. */
export abstract class HeldStream implements Listed<HeldStream> {
  older: HeldStream | undefined;
  newer: HeldStream | undefined;
  isListed = false;
  /** The list that contains the stream. Only {@link HeldStreams} writes this field. */
  waitsIn: OldestFirst<HeldStream> | undefined;
  heldBytes = 0;
  /** Whether the end of its wait is due. Only {@link HeldStreams} writes this field. */
  isGivenUp = false;
  /** Whether a request on the same connection has been allowed. */
  abstract readonly hasBeenAllowed: boolean;
  /** When gatecar began to wait for the client, on the clock of {@link HeldStreams}. */
  waitsSinceMs = 0;
  /**
   * Ends the wait. Answers the request with what has been received of it, or closes the stream if
   * the request has been answered.
   */
  abstract giveUp(): void;
}

/**
 * The open streams of all connections of a listener. Each stream reserves from the budget what it
 * holds. If the budget is exhausted, the streams that have waited longest for their client are
 * given up first. A stream waits for the rest of a message, or for the client to read a response.
 */
export class HeldStreams {
  readonly #minWaitMs: number;
  readonly #budget: Budget;
  readonly #now: () => number;
  readonly #waiting = new OldestFirst<HeldStream>();
  readonly #unreserved = new OldestFirst<HeldStream>();
  #givenUp: HeldStream[] = [];

  constructor(budget: Budget, now: () => number, minWaitMs: number = HELD_STREAM_MIN_WAIT_MS) {
    this.#minWaitMs = minWaitMs;
    this.#budget = budget;
    this.#now = now;
  }

  /**
   * Reserves more bytes for a stream.
   *
   * @returns false if the budget is exhausted, and giving up streams that have waited long enough
   *   does not free the bytes. For connections without an allowed request, the number of streams
   *   that are given up is limited. No stream is given up in vain.
   */
  hold(stream: HeldStream, bytes: number): boolean {
    if (!this.#budget.tryReserve(bytes, stream.hasBeenAllowed)) {
      const victims = this.#victimsFor(stream, bytes);
      if (victims === undefined) return false;
      for (const victim of victims) this.#giveUp(victim);
      this.#budget.tryReserve(bytes, stream.hasBeenAllowed);
    }
    stream.heldBytes += bytes;
    return true;
  }

  /**
   * Returns the streams to give up, oldest first, so that the bytes fit; `undefined` if that is not
   * possible.
   */
  #victimsFor(stream: HeldStream, bytes: number): HeldStream[] | undefined {
    const most = stream.hasBeenAllowed ? Number.POSITIVE_INFINITY : MAX_GIVEN_UP_PER_TURN - this.#givenUp.length;
    let missing = this.#budget.missingBytes(bytes, stream.hasBeenAllowed);
    const victims: HeldStream[] = [];
    for (let { oldest: next } = this.#waiting; missing > 0; next = next.newer) {
      if (next === undefined || next === stream || victims.length >= most) return undefined;
      if (!this.#hasWaited(next, this.#minWaitMs)) return undefined;
      victims.push(next);
      missing -= next.heldBytes;
    }
    return victims;
  }

  /** Releases everything that the stream holds. */
  release(stream: HeldStream): void {
    this.waitsNoMore(stream);
    this.#budget.release(stream.heldBytes);
    stream.heldBytes = 0;
  }

  /** Marks the stream as waiting for the rest of the client's message. */
  waits(stream: HeldStream): void {
    this.#wait(stream, this.#waiting);
  }

  /**
   * Marks the stream as waiting for the client to read its response.
   *
   * @param bytes that the stream holds. If they cannot be reserved, the stream still waits, as one
   *   of at most `MAX_UNRESERVED_STREAMS`.
   */
  waitsForReader(stream: HeldStream, bytes: number): void {
    this.waitsNoMore(stream);
    const isReserved = stream.heldBytes > 0 || this.hold(stream, bytes);
    this.#wait(stream, isReserved ? this.#waiting : this.#unreserved);
    if (this.#unreserved.size > MAX_UNRESERVED_STREAMS) this.#giveUp(this.#unreserved.oldest as HeldStream);
  }

  waitsNoMore(stream: HeldStream): void {
    stream.isGivenUp = false;
    stream.waitsIn?.remove(stream);
    stream.waitsIn = undefined;
  }

  /**
   * Gives up streams that have waited for longer than `maxMs`, a limited number in one event-loop
   * iteration. A flood can begin thousands of waits that end at the same time.
   *
   * @returns whether there are more of them.
   */
  expire(maxMs: number): boolean {
    for (const list of [this.#waiting, this.#unreserved]) {
      for (let { oldest } = list; oldest !== undefined && this.#hasWaited(oldest, maxMs); { oldest } = list) {
        if (this.#givenUp.length >= MAX_GIVEN_UP_PER_TURN) return true;
        this.#giveUp(oldest);
      }
    }
    return false;
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
   * Releases what the stream holds, because it is needed now, and ends the stream's wait later.
   * Ending a wait may leave a response for the client to read. Reserving memory for that response
   * may give up further streams. Deferring the end spreads them over event-loop iterations. If the
   * client completes the message in the meantime, the stream is not given up.
   */
  #giveUp(stream: HeldStream): void {
    this.release(stream);
    stream.isGivenUp = true;
    if (this.#givenUp.push(stream) === 1) setImmediate(this.#endGivenUp);
  }

  readonly #endGivenUp = (): void => {
    const streams = this.#givenUp;
    this.#givenUp = [];
    for (const stream of streams) {
      if (!stream.isGivenUp) continue;
      stream.isGivenUp = false;
      stream.giveUp();
    }
  };
}
