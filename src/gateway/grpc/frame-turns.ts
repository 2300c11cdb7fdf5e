import type { TurnOptions } from '../fair-turns.ts';

/** Limits on the frames that are passed on, and on how many of them start a stream. */
export interface FrameLimits {
  readonly frames: number;
  readonly streams: number;
}

/** The remaining share of an event-loop iteration. */
export interface TurnShare {
  frames: number;
  streams: number;
  /**
   * Limit in milliseconds since the start of the iteration. The time that a frame takes depends on
   * what its client requests.
   */
  ms: number;
  /** Limits for each call of {@link FrameSource.pass}. */
  readonly pass: FrameLimits & { readonly bytes: number };
}

/** A connection with bytes that have not been passed to its session. */
export interface FrameSource {
  /**
   * Passes on what the share allows, and deducts it from the share.
   *
   * @returns whether more bytes wait.
   */
  pass(share: TurnShare): boolean;
  /**
   * Stops reading until {@link pass} is called.
   *
   * @returns false if the connection is closed instead.
   */
  hold(): boolean;
}

export interface FrameTurnOptions extends TurnOptions {
  /** Calls back when all work that was just started is done. */
  readonly afterPass?: (callback: () => void) => void;
}

/** Divides each event-loop iteration among the connections that have frames to pass on. */
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

  /**
   * @param share the limits of one event-loop iteration for all connections, and in `pass` those of
   *   one connection per round.
   */
  constructor(share: Readonly<TurnShare>, options: FrameTurnOptions = {}) {
    const { atTurnEnd = setImmediate, afterPass = process.nextTick, now = () => performance.now() } = options;
    this.#wholeShare = share;
    this.#share = { ...share };
    this.#atTurnEnd = atTurnEnd;
    this.#afterPass = afterPass;
    this.#now = now;
  }

  /**
   * Passes on a connection's frames: now, as far as the share allows, and the rest in later
   * iterations.
   */
  add(source: FrameSource): void {
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      this.#startMs = this.#now();
      this.#atTurnEnd(this.#nextTurn);
    }
    // Connections that already wait come first.
    const waits = this.#waiting.length > 0 || !this.#isLeft ? source.hold() : source.pass(this.#share);
    if (waits) this.#waiting.push(source);
  }

  /**
   * Serves only one connection in each of the next `turns` iterations, because other work must not
   * wait.
   */
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

  /**
   * Passes on some frames of each connection, round after round. On any machine, however slow, each
   * iteration serves at least one connection.
   */
  readonly #passNext = (): void => {
    const source = this.#waiting.shift() as FrameSource;
    if (source.pass(this.#share)) this.#waiting.push(source);
    // The requests that these frames start are handled before the time limit is checked again.
    if (this.#waiting.length > 0 && this.#isLeft) this.#afterPass(this.#passNext);
    else this.#atTurnEnd(this.#nextTurn);
  };
}
