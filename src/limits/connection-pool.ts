import { Budget } from './budget.ts';
import { CONNECTION_MIN_IDLE_MS, IDLE_SEARCH_EVERY_MS } from './constants.ts';
import { type Listed, OldestFirst } from './oldest-first.ts';

/** The connections of one listener, which have their own limit within the pool. */
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
  /** When gatecar began to wait for the client, on the pool's clock. */
  waitsSinceMs = 0;
  readonly group: ConnectionGroup;
  readonly costBytes: number;
  /** Closes the connection immediately. */
  readonly destroy: () => void;
  /**
   * When the last request started, on the pool's clock. Before the first request, when the
   * connection was opened.
   */
  activeAtMs = 0;
  /** Whether gatecar still has to answer a request on this connection. */
  isBusy: () => boolean = () => false;
  /** Frees the memory that is held for the connection, before it is closed. */
  release: () => void = () => {};

  constructor(group: ConnectionGroup, costBytes: number, destroy: () => void) {
    this.group = group;
    this.costBytes = costBytes;
    this.destroy = destroy;
  }
}

/**
 * All connections of the listeners that share the pool. If the pool or a group is full, the pool
 * closes the connection that has waited longest for its client. If no connection waits, it closes
 * the one that has been idle longest.
 *
 * A connection waits for its client during the handshake and while a request is incomplete. Until a
 * request on it has been allowed, it also waits whenever gatecar owes it no decision. Clients
 * without a valid credential therefore keep no other client out, however many connections they open
 * and whatever they send.
 */
export class ConnectionPool {
  readonly budget: Budget;
  readonly #groups = new Set<ConnectionGroup>();
  readonly #open = new Set<PooledConnection>();
  /** In the order in which the connections began to hold bytes of requests. */
  readonly #holding = new Set<PooledConnection>();
  readonly #allGroups = new ConnectionGroup();
  readonly #minIdleMs: number;
  readonly #now: () => number;

  constructor(limitBytes: number, { minIdleMs = CONNECTION_MIN_IDLE_MS, now = () => performance.now() } = {}) {
    this.budget = new Budget(limitBytes);
    this.#minIdleMs = minIdleMs;
    this.#now = now;
  }

  get size(): number {
    return this.#open.size;
  }

  /**
   * Adds a connection, which waits for its client at first.
   *
   * @returns false if a limit is reached even after other connections have been closed.
   */
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

  /**
   * Marks the connection as waiting for its client. From now on the pool may close it for a new
   * one.
   */
  waits(connection: PooledConnection): void {
    if (connection.isListed || !this.#open.has(connection)) return;
    connection.waitsSinceMs = this.#now();
    connection.group.waiting.add(connection);
  }

  /** Marks the connection as not waiting for its client. */
  waitsNoMore(connection: PooledConnection): void {
    connection.group.waiting.remove(connection);
  }

  /** Marks the connection as holding bytes of a request that is incomplete or has not been read. */
  holds(connection: PooledConnection): void {
    this.#holding.add(connection);
  }

  holdsNoMore(connection: PooledConnection): void {
    this.#holding.delete(connection);
  }

  /**
   * Closes the connection that has held bytes of a request for the longest time.
   *
   * @returns whether there was one.
   */
  closeOneHolding(): boolean {
    const [oldest] = this.#holding;
    return this.#close(oldest);
  }

  /** Removes a closed connection. A second call does nothing. */
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

  /**
   * Returns the connection that has been idle longest, if it has been idle long enough.
   *
   * @param group whose connections are searched. If omitted, all connections are searched.
   */
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
    // A search through all connections for each rejected connection would itself be an overload.
    if (found === undefined) search.searchAgainAtMs = now + IDLE_SEARCH_EVERY_MS;
    return found;
  }
}
