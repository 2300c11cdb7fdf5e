import { Budget } from './budget.ts';
import { type Listed, OldestFirst } from './oldest-first.ts';

/** How long a connection must have been idle before it may be closed to make room, in milliseconds. */
const MIN_IDLE_MS = 30_000;

/** How long to wait before looking for an idle connection again after none was found, in milliseconds. */
const SEARCH_EVERY_MS = 1_000;

/** What one open connection takes, in bytes: measured idle, and rounded up. */
export const CONNECTION_BYTES = {
  http: 16 * 1024,
  grpc: 32 * 1024,
  /** On top of that for TLS: its session, and during the handshake what OpenSSL needs for it. */
  tls: 80 * 1024,
} as const;

/** The pool's record of an open connection. */
export class PooledConnection implements Listed<PooledConnection> {
  older: PooledConnection | undefined;
  newer: PooledConnection | undefined;
  isListed = false;
  readonly costBytes: number;
  /** Closes the connection at once. */
  readonly destroy: () => void;
  /** When its last request began, on the pool's clock; when it was opened, before the first. */
  activeAtMs = 0;
  /** Whether gatecar owes it an answer. */
  isBusy: () => boolean = () => false;
  /** Frees at once what is held for it, before it is closed. */
  release: () => void = () => {};

  constructor(costBytes: number, destroy: () => void) {
    this.costBytes = costBytes;
    this.destroy = destroy;
  }
}

/**
 * All connections of the listeners that share it. If there is no room for one more, the connection that has waited longest
 * for its client (a handshake, a first request, the rest of a head) is closed in its favour, then one that has long been
 * idle. Clients that open connections and send nothing therefore keep no other client out.
 */
export class ConnectionPool {
  readonly budget: Budget;
  readonly #waiting = new OldestFirst<PooledConnection>();
  readonly #open = new Set<PooledConnection>();
  readonly #minIdleMs: number;
  readonly #now: () => number;
  #searchAgainAtMs = Number.NEGATIVE_INFINITY;

  constructor(limitBytes: number, { minIdleMs = MIN_IDLE_MS, now = () => performance.now() } = {}) {
    this.budget = new Budget(limitBytes);
    this.#minIdleMs = minIdleMs;
    this.#now = now;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Takes the connection in, as one that waits for its client. @returns false if there is no room even after closing others. */
  add(connection: PooledConnection): boolean {
    while (!this.budget.tryReserve(connection.costBytes)) {
      if (!this.closeOneWaiting() && !this.#close(this.#longestIdle())) return false;
    }
    connection.activeAtMs = this.#now();
    this.#open.add(connection);
    this.#waiting.add(connection);
    return true;
  }

  /** The connection waits for its client from now on, and may be closed to make room. */
  waits(connection: PooledConnection): void {
    if (this.#open.has(connection)) this.#waiting.add(connection);
  }

  /** The client has sent what the connection waited for. */
  waitsNoMore(connection: PooledConnection): void {
    this.#waiting.remove(connection);
  }

  /** Forgets a closed connection; a second time it does nothing. */
  remove(connection: PooledConnection): void {
    if (!this.#open.delete(connection)) return;
    this.#waiting.remove(connection);
    this.budget.release(connection.costBytes);
  }

  /** Closes the connection that has waited longest for its client. @returns whether there was one. */
  closeOneWaiting(): boolean {
    return this.#close(this.#waiting.oldest);
  }

  #close(connection: PooledConnection | undefined): boolean {
    if (connection === undefined) return false;
    this.remove(connection);
    connection.release();
    connection.destroy();
    return true;
  }

  #longestIdle(): PooledConnection | undefined {
    const now = this.#now();
    if (now < this.#searchAgainAtMs) return undefined;
    let found: PooledConnection | undefined;
    let activeAtMs = now - this.#minIdleMs;
    for (const connection of this.#open) {
      if (connection.isBusy() || connection.activeAtMs > activeAtMs) continue;
      found = connection;
      activeAtMs = connection.activeAtMs;
    }
    // Looking at every connection for each one that is rejected would itself be an overload.
    if (found === undefined) this.#searchAgainAtMs = now + SEARCH_EVERY_MS;
    return found;
  }
}
