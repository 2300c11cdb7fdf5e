/** What is left of a turn. */
export interface TurnShare {
  frames: number;
  streams: number;
}

/** A connection with bytes that have not been passed on. */
export interface FrameSource {
  /** Passes on what the share allows, and takes it from the share. @returns whether more is waiting. */
  pass(share: TurnShare): boolean;
  /** Reads no more before {@link pass} is called. @returns false if the connection is closed instead. */
  hold(): boolean;
}

/** Divides each turn of the event loop among the connections that have frames to pass on. */
export class FrameTurns {
  readonly #atTurnEnd: (callback: () => void) => void;
  #waiting: FrameSource[] = [];
  readonly #wholeShare: TurnShare;
  #share: TurnShare;
  #isScheduled = false;

  /** @param share what all connections may have of a turn: frames, and requests among them. */
  constructor(share: TurnShare, atTurnEnd: (callback: () => void) => void = setImmediate) {
    this.#wholeShare = share;
    this.#share = { ...share };
    this.#atTurnEnd = atTurnEnd;
  }

  /** Passes on what a connection has, now as far as the turn has room for it, and the rest in later turns. */
  add(source: FrameSource): void {
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      this.#atTurnEnd(this.#nextTurn);
    }
    // Those that wait already come first.
    const waits = this.#waiting.length > 0 ? source.hold() : source.pass(this.#share);
    if (waits) this.#waiting.push(source);
  }

  readonly #nextTurn = (): void => {
    this.#isScheduled = false;
    this.#share = { ...this.#wholeShare };
    // A little of each, round after round.
    const waiting = this.#waiting;
    this.#waiting = [];
    let next = 0;
    for (; next < waiting.length && this.#share.frames > 0 && this.#share.streams > 0; next += 1) {
      const source = waiting[next] as FrameSource;
      if (source.pass(this.#share)) waiting.push(source);
    }
    this.#waiting = waiting.slice(next);
    if (this.#waiting.length > 0) {
      this.#isScheduled = true;
      this.#atTurnEnd(this.#nextTurn);
    }
  };
}
