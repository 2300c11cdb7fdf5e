import type { TurnOptions } from './grpc/frame-turns.ts';

/** A request whose bytes have all come. */
export interface ReadyRequest {
  handle(): void;
  /** Called before it waits: its bytes are still part of what was read from the connection. */
  keep(): void;
}

/** A connection that carries many requests at once. */
export class SharedConnection {
  readonly ready: ReadyRequest[] = [];
  /** Whether it is in the queue of connections with requests that are ready. */
  isQueued = false;
  /** The turn in which requests of this connection were handled last, and how many. */
  turn: object | undefined;
  handled = 0;
  /** Streams that are open. */
  open = 0;
  /** Calls that wait for a review. */
  pending = 0;
  /** Called when what is open, pending or allowed has changed. */
  onChange: () => void = () => {};
  /** Whether one of its requests has been allowed: clients without a valid token share their turns among themselves. */
  hasBeenAllowed = false;

  /** Whether gatecar owes it a decision. */
  get isBusy(): boolean {
    return this.pending > 0 || this.isQueued;
  }
}

/** How many requests are handled in one turn, and for how many milliseconds. */
export interface RequestLimits {
  readonly inAll: number;
  readonly perConnection: number;
  readonly ms: number;
}

/**
 * Divides the turns of the event loop among connections: what one connection sends at once beyond its share is handled in
 * later turns, and each connection's share comes round before the next one of the same connection.
 *
 * What waits is bounded by the streams that a connection may have open.
 */
export class FairTurns {
  readonly #limits: RequestLimits;
  readonly #atTurnEnd: (callback: () => void) => void;
  readonly #now: () => number;
  #turn = {};
  #waiting: SharedConnection[] = [];
  #handled = 0;
  #startMs = 0;
  #shortTurns = 0;
  #isShort = false;
  #isScheduled = false;

  /** @param limits for one turn. */
  constructor(limits: RequestLimits, { atTurnEnd = setImmediate, now = () => performance.now() }: TurnOptions = {}) {
    this.#limits = limits;
    this.#atTurnEnd = atTurnEnd;
    this.#now = now;
  }

  /** Handles the request now, or in a later turn. */
  add(connection: SharedConnection, request: ReadyRequest): void {
    const handled = connection.turn === this.#turn ? connection.handled : 0;
    if (!connection.isQueued && handled < this.#limits.perConnection && this.#isLeft) {
      this.#handle(connection, request);
      return;
    }
    request.keep();
    connection.ready.push(request);
    if (!connection.isQueued) {
      connection.isQueued = true;
      this.#waiting.push(connection);
    }
    this.#schedule();
  }

  /** For so many turns, one request is handled in each: others have something to do that must not wait. */
  shorten(turns: number): void {
    this.#shortTurns = turns;
  }

  #handle(connection: SharedConnection, request: ReadyRequest): void {
    if (connection.turn !== this.#turn) {
      connection.turn = this.#turn;
      connection.handled = 0;
    }
    this.#handled += 1;
    connection.handled += 1;
    // A turn with a single request needs no end: the next request ends it.
    if (this.#handled > 1) this.#schedule();
    request.handle();
  }

  get #isLeft(): boolean {
    if (!this.#isScheduled || this.#handled === 0) return true;
    return !this.#isShort && this.#handled < this.#limits.inAll && this.#now() < this.#startMs + this.#limits.ms;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#startMs = this.#now();
    this.#atTurnEnd(this.#endTurn);
  }

  readonly #endTurn = (): void => {
    this.#startMs = this.#now();
    this.#isShort = this.#shortTurns > 0;
    if (this.#isShort) this.#shortTurns -= 1;
    this.#handled = 0;
    this.#turn = {};
    // One request of each, round after round. Those that have had their share come first in the next turn.
    const waiting = this.#waiting;
    this.#waiting = [];
    let next = 0;
    for (; next < waiting.length && this.#isLeft; next += 1) {
      const connection = waiting[next] as SharedConnection;
      this.#handle(connection, connection.ready.shift() as ReadyRequest);
      // Handling a request may have made others of its connection ready.
      connection.isQueued = connection.ready.length > 0;
      if (!connection.isQueued) continue;
      if (connection.handled < this.#limits.perConnection) waiting.push(connection);
      else this.#waiting.push(connection);
    }
    this.#waiting = [...waiting.slice(next), ...this.#waiting];
    this.#isScheduled = this.#waiting.length > 0;
    if (this.#isScheduled) this.#atTurnEnd(this.#endTurn);
  };
}
