/**
 * A number of bytes that many holders share. Each holder reserves before it holds and releases afterwards, so that the
 * total has a limit, however many connections it is spread over.
 */
export class Budget {
  readonly limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** @returns whether the bytes were free. If not, nothing is reserved. */
  tryReserve(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.limitBytes) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Gives back what {@link tryReserve} reserved. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
