/** Does what is left to do in the order in which it was added, a limited number in each turn of the event loop. */
export class TurnQueue {
  readonly #perTurn: number;
  readonly #atTurnEnd: (callback: () => void) => void;
  #waiting: (() => boolean)[] = [];

  constructor(perTurn: number, atTurnEnd: (callback: () => void) => void = setImmediate) {
    this.#perTurn = perTurn;
    this.#atTurnEnd = atTurnEnd;
  }

  /** Calls the function once this turn has ended. @param run returns false if nothing was to be done any more. */
  add(run: () => boolean): void {
    if (this.#waiting.push(run) === 1) this.#atTurnEnd(this.#nextTurn);
  }

  readonly #nextTurn = (): void => {
    const waiting = this.#waiting;
    // What is added meanwhile comes after those that wait already.
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
