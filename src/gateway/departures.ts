/** An answer that is ready to be sent. */
export interface Departing {
  /** When its request came, in milliseconds on the clock of all of them. */
  readonly startedAt: number;
  /** Sends it. Does not throw. */
  leave(): void;
}

/** A turn of the event loop with more answers than this is a dense one. With fewer, who asked would only wait longer. */
export const FEW = 4;

/** One of so many answers has its turn counted, while turns are not dense. Turns of equal length shall not hide from it. */
export const COUNTED_OF = 29;

/** How much work of its listener the first answer may wait for, in milliseconds, and how many wait with it. */
export const MAX_HELD_MS = 1;
export const MAX_HELD = 64;

/**
 * Sends the answers of a dense turn together, at its end or after a millisecond. Each write to a peer that has gone to sleep
 * wakes it, which takes longer than all else in a cached decision; answers that follow closely find it awake. With 32
 * connections that is a quarter of a cached decision, and of a refusal for a signature.
 *
 * The order on one connection is Node's to keep. What is held is bounded, so that Node stops reading a peer that does not read.
 */
export class Departures {
  readonly #atTurnEnd: (callback: () => void) => void;
  #held: Departing[] = [];
  #isDense = false;
  #isCounting = false;
  #uncounted = 0;
  #count = 0;

  constructor(atTurnEnd: (callback: () => void) => void = setImmediate) {
    this.#atTurnEnd = atTurnEnd;
  }

  /** Sends it, now or with the others of this turn. */
  add(departing: Departing): void {
    if (!this.#isCounting) {
      this.#uncounted += 1;
      if (this.#isDense || this.#uncounted >= COUNTED_OF) this.#countTurn();
    }
    this.#count += 1;
    if (!this.#isDense) {
      departing.leave();
      return;
    }
    const held = this.#held.push(departing);
    const since = (this.#held[0] as Departing).startedAt;
    if (held >= MAX_HELD || departing.startedAt - since >= MAX_HELD_MS) this.#sendHeld();
  }

  /** Told of other work in this turn: whoever has waited long enough for it waits no longer. @param at when that began. */
  pass(at: number): void {
    const [first] = this.#held;
    if (first !== undefined && at - first.startedAt >= MAX_HELD_MS) this.#sendHeld();
  }

  #countTurn(): void {
    this.#isCounting = true;
    this.#uncounted = 0;
    this.#count = 0;
    this.#atTurnEnd(this.#turnEnded);
  }

  readonly #turnEnded = (): void => {
    this.#isCounting = false;
    this.#isDense = this.#count > FEW;
    this.#sendHeld();
  };

  #sendHeld(): void {
    const held = this.#held;
    this.#held = [];
    for (const departing of held) departing.leave();
  }
}
