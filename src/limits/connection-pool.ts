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

/** Connections of one pool that have a limit of their own: those of one listener. */
export class ConnectionGroup {
  readonly maxConnections: number;
  size = 0;
  readonly waiting = new OldestFirst<PooledConnection>();
  searchAgainAtMs = Number.NEGATIVE_INFINITY;

  constructor(maxConnections: number = Number.POSITIVE_INFINITY) {
    this.maxConnections = maxConnections;
  }
}

/** The pool's record of an open connection. */
export class PooledConnection implements Listed<PooledConnection> {
  older: PooledConnection | undefined;
  newer: PooledConnection | undefined;
  isListed = false;
  /** Since when gatecar waits for its client, on the pool's clock. */
  waitsSinceMs = 0;
  readonly group: ConnectionGroup;
  readonly costBytes: number;
  /** Closes the connection at once. */
  readonly destroy: () => void;
  /** When its last request began, on the pool's clock; when it was opened, before the first. */
  activeAtMs = 0;
  /** Whether gatecar owes it an answer. */
  isBusy: () => boolean = () => false;
  /** Frees at once what is held for it, before it is closed. */
  release: () => void = () => {};

  constructor(group: ConnectionGroup, costBytes: number, destroy: () => void) {
    this.group = group;
    this.costBytes = costBytes;
    this.destroy = destroy;
  }
}

/**
 * All connections of the listeners that share it. If there is no room for one more, in all or in its group, the connection
 * that has waited longest for its client is closed in its favour, then one that has long been idle.
 *
 * A connection waits for its client during the handshake, while a request is incomplete, and, until a request on it has been
 * allowed, whenever gatecar owes it no decision. Clients without a valid credential therefore keep no other client out,
 * however many connections they open and whatever they send on them.
 */
export class ConnectionPool {
  readonly budget: Budget;
  readonly #groups = new Set<ConnectionGroup>();
  readonly #open = new Set<PooledConnection>();
  /** In the order in which they began to hold bytes of requests. */
  readonly #holding = new Set<PooledConnection>();
  readonly #allGroups = new ConnectionGroup();
  readonly #minIdleMs: number;
  readonly #now: () => number;

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
    const { group, costBytes } = connection;
    while (group.size >= group.maxConnections) {
      if (!this.#close(group.waiting.oldest) && !this.#close(this.#longestIdle(group))) return false;
    }
    while (!this.budget.tryReserve(costBytes)) {
      if (!this.#closeOneWaiting() && !this.#close(this.#longestIdle())) return false;
    }
    connection.activeAtMs = this.#now();
    this.#open.add(connection);
    this.#groups.add(group);
    group.size += 1;
    this.waits(connection);
    return true;
  }

  /** The connection waits for its client from now on, and may be closed to make room. */
  waits(connection: PooledConnection): void {
    if (connection.isListed || !this.#open.has(connection)) return;
    connection.waitsSinceMs = this.#now();
    connection.group.waiting.add(connection);
  }

  /** The client has sent what the connection waited for. */
  waitsNoMore(connection: PooledConnection): void {
    connection.group.waiting.remove(connection);
  }

  /** From now on the connection holds bytes of a request that is incomplete or has not been read. */
  holds(connection: PooledConnection): void {
    this.#holding.add(connection);
  }

  holdsNoMore(connection: PooledConnection): void {
    this.#holding.delete(connection);
  }

  /** Closes the connection that has held bytes of a request for longest. @returns whether there was one. */
  closeOneHolding(): boolean {
    const [oldest] = this.#holding;
    return this.#close(oldest);
  }

  /** Forgets a closed connection; a second time it does nothing. */
  remove(connection: PooledConnection): void {
    if (!this.#open.delete(connection)) return;
    this.waitsNoMore(connection);
    this.holdsNoMore(connection);
    connection.group.size -= 1;
    this.budget.release(connection.costBytes);
  }

  #closeOneWaiting(): boolean {
    let found: PooledConnection | undefined;
    for (const { waiting } of this.#groups) {
      const { oldest } = waiting;
      if (oldest !== undefined && oldest.waitsSinceMs < (found?.waitsSinceMs ?? Number.POSITIVE_INFINITY))
        found = oldest;
    }
    return this.#close(found);
  }

  #close(connection: PooledConnection | undefined): boolean {
    if (connection === undefined) return false;
    this.remove(connection);
    connection.release();
    connection.destroy();
    return true;
  }

  /** @param group whose connections are looked at; all of them without it. */
  #longestIdle(group?: ConnectionGroup): PooledConnection | undefined {
    const now = this.#now();
    const search = group ?? this.#allGroups;
    if (now < search.searchAgainAtMs) return undefined;
    let found: PooledConnection | undefined;
    let activeAtMs = now - this.#minIdleMs;
    for (const connection of this.#open) {
      if (group !== undefined && connection.group !== group) continue;
      if (connection.isBusy() || connection.activeAtMs > activeAtMs) continue;
      found = connection;
      activeAtMs = connection.activeAtMs;
    }
    // Looking at every connection for each one that is rejected would itself be an overload.
    if (found === undefined) search.searchAgainAtMs = now + SEARCH_EVERY_MS;
    return found;
  }
}
