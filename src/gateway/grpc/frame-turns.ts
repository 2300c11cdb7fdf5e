/** How much may be passed on: frames, and how many of them may begin a stream. */
export interface FrameLimits {
  readonly frames: number;
  readonly streams: number;
}

/** What is left of a turn. */
export interface TurnShare {
  frames: number;
  streams: number;
  /** Milliseconds since the turn began: how long a frame takes depends on what its client wants. */
  ms: number;
  /** For each call of {@link FrameSource.pass}. */
  readonly pass: FrameLimits & { readonly bytes: number };
}

/**
 * How many turns a call takes from its first frame until the end of its answer has been written: Node writes trailers, and
 * goes on after each write to a stream that is no socket, in the next turn.
 */
export const TURNS_OF_A_CALL = 3;

/** A connection with bytes that have not been passed on. */
export interface FrameSource {
  /** Passes on what the share allows, and takes it from the share. @returns whether more is waiting. */
  pass(share: TurnShare): boolean;
  /** Reads no more before {@link pass} is called. @returns false if the connection is closed instead. */
  hold(): boolean;
}

export interface TurnOptions {
  /** Calls back when the turn of the event loop ends. */
  readonly atTurnEnd?: (callback: () => void) => void;
  /** Calls back when all that was begun just now has been done. */
  readonly afterPass?: (callback: () => void) => void;
  /** In milliseconds. */
  readonly now?: () => number;
}

/** Divides each turn of the event loop among the connections that have frames to pass on. */
export class FrameTurns {
  readonly #atTurnEnd: (callback: () => void) => void;
  readonly #now: () => number;
  readonly #afterPass: (callback: () => void) => void;
  #waiting: FrameSource[] = [];
  readonly #wholeShare: Readonly<TurnShare>;
  #share: TurnShare;
  #isScheduled = false;
  #startMs = 0;
  #shortTurns = 0;

  /** @param share what all connections may have of a turn, and one before it is the turn of others. */
  constructor(share: Readonly<TurnShare>, options: TurnOptions = {}) {
    const { atTurnEnd = setImmediate, afterPass = process.nextTick, now = () => performance.now() } = options;
    this.#wholeShare = share;
    this.#share = { ...share };
    this.#atTurnEnd = atTurnEnd;
    this.#afterPass = afterPass;
    this.#now = now;
  }

  /** Passes on what a connection has, now as far as the turn has room for it, and the rest in later turns. */
  add(source: FrameSource): void {
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      this.#startMs = this.#now();
      this.#atTurnEnd(this.#nextTurn);
    }
    // Those that wait already come first.
    const waits = this.#waiting.length > 0 || !this.#isLeft ? source.hold() : source.pass(this.#share);
    if (waits) this.#waiting.push(source);
  }

  /** For so many turns, one connection passes something on in each: others have something to do that must not wait. */
  shorten(turns: number): void {
    this.#shortTurns = turns;
  }

  get #isLeft(): boolean {
    const { frames, streams } = this.#share;
    return frames > 0 && streams > 0 && this.#now() < this.#startMs + this.#share.ms;
  }

  readonly #nextTurn = (): void => {
    this.#share = { ...this.#wholeShare };
    this.#startMs = this.#now();
    this.#isScheduled = this.#waiting.length > 0;
    if (this.#shortTurns > 0) {
      this.#shortTurns -= 1;
      this.#share.ms = 0;
    }
    if (this.#isScheduled) this.#passNext();
  };

  /** A little of each, round after round. However slow this machine is, one passes something on in each turn. */
  readonly #passNext = (): void => {
    const source = this.#waiting.shift() as FrameSource;
    if (source.pass(this.#share)) this.#waiting.push(source);
    // What passing on has begun (the handling of a request) is done before the time is looked at again.
    if (this.#waiting.length > 0 && this.#isLeft) this.#afterPass(this.#passNext);
    else this.#atTurnEnd(this.#nextTurn);
  };
}
