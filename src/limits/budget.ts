/**
 * A number of bytes that many holders share. Each holder reserves bytes before it holds them and
 * releases them afterwards. The total therefore has a limit, however many connections it is spread
 * over.
 */
export class Budget {
  readonly limitBytes: number;
  /**
   * Bytes that only clients with an allowed request may reserve, so that no flood by other clients
   * keeps them out.
   */
  readonly #allowedOnlyBytes: number;
  #usedBytes = 0;

  /**
   * @param allowedOnlyShare the fraction of the bytes that only clients with an allowed request may
   *   reserve.
   */
  constructor(limitBytes: number, { allowedOnlyShare = 0 } = {}) {
    this.limitBytes = limitBytes;
    this.#allowedOnlyBytes = Math.floor(limitBytes * allowedOnlyShare);
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * Reserves bytes.
   *
   * @param bytes to reserve; negative to release some.
   * @param hasBeenAllowed whether a request on the same connection has been allowed.
   * @returns whether the bytes were available. If not, nothing is reserved.
   */
  tryReserve(bytes: number, hasBeenAllowed = false): boolean {
    const availableBytes = this.limitBytes - (hasBeenAllowed ? 0 : this.#allowedOnlyBytes);
    // A holder can always reduce what it holds, even if the remaining bytes are only for allowed
    // clients.
    if (bytes > 0 && this.#usedBytes + bytes > availableBytes) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Releases bytes that {@link tryReserve} reserved. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
