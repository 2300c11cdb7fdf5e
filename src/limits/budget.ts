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
    // A holder can always reduce what it holds, even if the remaining bytes are only for allowed
    // clients.
    if (bytes > 0 && this.missingBytes(bytes, hasBeenAllowed) > 0) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Returns how many bytes must be released before `bytes` can be reserved; 0 or less if none. */
  missingBytes(bytes: number, hasBeenAllowed = false): number {
    const availableBytes = this.limitBytes - (hasBeenAllowed ? 0 : this.#allowedOnlyBytes);
    return this.#usedBytes + bytes - availableBytes;
  }

  /** Releases bytes that {@link tryReserve} reserved. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
