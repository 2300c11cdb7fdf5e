/**
 * Delays writes to the end of the event-loop iteration, so that all requests that have arrived are
 * decided before the first response is sent. A client that waits for responses is then woken once
 * for all of them. To wake it for each response costs about as much CPU time as the decision.
 *
 * A stream has one write in progress, so the number of connections bounds the batch.
 */
export class WriteBatch {
  readonly #atTurnEnd: (callback: () => void) => void;
  #waiting: (() => void)[] = [];

  constructor(atTurnEnd: (callback: () => void) => void = setImmediate) {
    this.#atTurnEnd = atTurnEnd;
  }

  /** Calls `write` at the end of the current event-loop iteration. */
  add(write: () => void): void {
    if (this.#waiting.push(write) === 1) this.#atTurnEnd(this.flush);
  }

  /** Calls all waiting writes now, and those that they add. */
  readonly flush = (): void => {
    while (this.#waiting.length > 0) {
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const write of waiting) write();
    }
  };
}
