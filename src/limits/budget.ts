/**
 * A number of bytes that many holders share. Each holder reserves before it holds and releases afterwards, so that the
 * total has a limit, however many connections it is spread over.
 */
export class Budget {
  readonly limitBytes: number;
  /** What only clients with an allowed request may reserve, so that no flood by others keeps them out. */
  readonly #allowedOnlyBytes: number;
  #usedBytes = 0;

  /** @param allowedOnlyShare the part of the bytes that only clients with an allowed request may reserve. */
  constructor(limitBytes: number, { allowedOnlyShare = 0 } = {}) {
    this.limitBytes = limitBytes;
    this.#allowedOnlyBytes = Math.floor(limitBytes * allowedOnlyShare);
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * @param hasBeenAllowed whether a request on the same connection has been allowed.
   * @returns whether the bytes were free. If not, nothing is reserved.
   */
  tryReserve(bytes: number, hasBeenAllowed = false): boolean {
    const availableBytes = this.limitBytes - (hasBeenAllowed ? 0 : this.#allowedOnlyBytes);
    // Holding less than before is always possible, also for those who have used the part of others.
    if (bytes > 0 && this.#usedBytes + bytes > availableBytes) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Gives back what {@link tryReserve} reserved. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
