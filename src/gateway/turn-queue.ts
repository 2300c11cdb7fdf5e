/**
 * Runs queued functions in the order in which they were added, a limited number in each event-loop
 * iteration.
 */
export class TurnQueue {
  readonly #perTurn: number;
  readonly #atTurnEnd: (callback: () => void) => void;
  #waiting: (() => boolean)[] = [];

  constructor(perTurn: number, atTurnEnd: (callback: () => void) => void = setImmediate) {
    this.#perTurn = perTurn;
    this.#atTurnEnd = atTurnEnd;
  }

  /**
   * Calls the function after the current event-loop iteration.
   *
   * @param run returns false if there was nothing left to do. It then does not count against the
   *   limit.
   */
  add(run: () => boolean): void {
    if (this.#waiting.push(run) === 1) this.#atTurnEnd(this.#nextTurn);
  }

  readonly #nextTurn = (): void => {
    const waiting = this.#waiting;
    // Functions that are added during the loop run after those that already wait.
    this.#waiting = [];
    let next = 0;
    for (let done = 0; next < waiting.length && done < this.#perTurn; next += 1) {
      if (waiting[next]?.()) done += 1;
    }
    const added = this.#waiting;
    if (next === waiting.length) return;
    this.#waiting = [...waiting.slice(next), ...added];
    if (added.length === 0) this.#atTurnEnd(this.#nextTurn);
  };
}
