/** A request that is ready to be handled. */
export interface ReadyRequest {
  handle(): void;
  /**
   * Called before the request is queued. It must copy its bytes, which are part of a larger buffer
   * that was read from the connection.
   */
  keep(): void;
}

/** A connection that carries many concurrent requests. */
export class SharedConnection {
  readonly ready: ReadyRequest[] = [];
  /** Whether the connection is in the queue of connections with ready requests. */
  isQueued = false;
  /**
   * Identifies the event-loop iteration that last handled requests of this connection. `handled`
   * counts those requests.
   */
  turn: object | undefined;
  handled = 0;
  /** Number of open streams. */
  open = 0;
  /** Number of calls that wait for a review. */
  pending = 0;
  /** Called when `open`, `pending` or `hasBeenAllowed` may have changed. */
  onChange: () => void = () => {};
  /**
   * Whether a request of this connection has been allowed. Connections without an allowed request
   * are scheduled separately from the others.
   */
  hasBeenAllowed = false;

  /** Whether gatecar still has to decide a request of this connection. */
  get isBusy(): boolean {
    return this.pending > 0 || this.isQueued;
  }
}

/** Hooks and clock of an object that divides event-loop iterations. */
export interface TurnOptions {
  /** Calls back when the event-loop iteration ends. */
  readonly atTurnEnd?: (callback: () => void) => void;
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number;
}

/**
 * Number of event-loop iterations from the first frame of a call until its response has been
 * written. Node sends trailers in a later iteration. It also defers to a later iteration after each
 * write to a stream that is not a socket.
 */
const TURNS_OF_A_CALL = 3;

/**
 * Returns the turns that a connection takes part in. Connections without an allowed request have
 * turns of their own, which are shortened while other connections have work.
 */
export function turnsByAllowance<T extends { shorten(turns: number): void }>(
  turns: T,
  turnsOfAllowed: T,
): (connection: SharedConnection) => T {
  return ({ hasBeenAllowed }) => {
    if (!hasBeenAllowed) return turns;
    turns.shorten(TURNS_OF_A_CALL);
    return turnsOfAllowed;
  };
}

/**
 * Limits for one event-loop iteration: requests in total, requests per connection, and
 * milliseconds.
 */
export interface RequestLimits {
  readonly inAll: number;
  readonly perConnection: number;
  readonly ms: number;
}

/**
 * Divides event-loop iterations among connections. Requests beyond a connection's share are handled
 * in later iterations. Each waiting connection gets its share before another connection gets a
 * second one.
 *
 * The queue is bounded by the number of streams that a connection may have open.
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

  /** @param limits for one event-loop iteration. */
  constructor(limits: RequestLimits, { atTurnEnd = setImmediate, now = () => performance.now() }: TurnOptions = {}) {
    this.#limits = limits;
    this.#atTurnEnd = atTurnEnd;
    this.#now = now;
  }

  /** Handles the request now, or queues it for a later event-loop iteration. */
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

  /**
   * Handles only one request in each of the next `turns` iterations, because other work must not
   * wait.
   */
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
    // A single request does not schedule the end of the iteration; the next request does.
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
    // Handle one request per connection, round after round. Connections that were not reached come
    // first in the next iteration, before those that have used their share.
    const waiting = this.#waiting;
    this.#waiting = [];
    let next = 0;
    for (; next < waiting.length && this.#isLeft; next += 1) {
      const connection = waiting[next] as SharedConnection;
      this.#handle(connection, connection.ready.shift() as ReadyRequest);
      // Handling a request can make other requests of the same connection ready.
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
