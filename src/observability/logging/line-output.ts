import { LOG_LAST_RETRY_MS, LOG_MAX_BACKLOG_BYTES, LOG_MAX_WRITE_BYTES, LOG_RETRY_MS } from '../../limits/constants.ts';
import { isRetried, type Sink } from './standard-stream.ts';

export interface LineOutputOptions {
  readonly sink: Sink;
  /** Called for the first failed write of the process, with the error's code. */
  readonly onFailure?: (code: string) => void;
  readonly maxBytes?: number;
  readonly retryMs?: number;
}

/** State of an output at process exit. */
export interface Finished {
  /** Number of lines lost that have not been reported by {@link LineOutput.reportGaps}. */
  readonly lost: number;
  /** Whether a write is still in flight that an exit would wait for. */
  readonly delaysExit: boolean;
}

interface Chunk {
  text: string;
  bytes: number;
}

/**
 * Takes whole lines, writes them in the background, and counts every line that it could not write.
 * It never throws and never blocks the event loop, even if the output fails.
 *
 * Lines are kept while the disk is full, and written once it has space again. They are lost if the
 * reader has closed the output, or if they exceed {@link LOG_MAX_BACKLOG_BYTES}.
 */
export class LineOutput {
  readonly #sink: Sink;
  readonly #onFailure: (code: string) => void;
  readonly #maxBytes: number;
  readonly #retryMs: number;
  #queue: Chunk[] = [];
  /** The bytes that are being written or retried. */
  #current: Buffer | undefined;
  /** Bytes of the queue and of the current write. */
  #held = 0;
  #state: 'idle' | 'scheduled' | 'writing' | 'waiting' = 'idle';
  #retry: NodeJS.Timeout | undefined;
  #dropped = 0;
  #failed = 0;
  /** Whether a write has failed, or a line was lost, since the last report. */
  #hasGap = false;
  #reported = 0;
  #report: (lost: number) => void = () => {};
  /** Set while {@link finish} waits. */
  #onIdle: (() => void) | undefined;

  constructor({
    sink,
    onFailure = () => {},
    maxBytes = LOG_MAX_BACKLOG_BYTES,
    retryMs = LOG_RETRY_MS,
  }: LineOutputOptions) {
    this.#sink = sink;
    this.#onFailure = onFailure;
    this.#maxBytes = maxBytes;
    this.#retryMs = retryMs;
  }

  /** Number of lines lost so far. */
  get droppedLines(): number {
    return this.#dropped;
  }

  /** Number of writes that failed so far. */
  get failedWrites(): number {
    return this.#failed;
  }

  /**
   * Takes whole lines. They are written later, together with others of the same event-loop
   * iteration.
   */
  write(text: string): void {
    const bytes = Buffer.byteLength(text);
    if (bytes === 0) return;
    if (this.#held + bytes > this.#maxBytes) {
      this.#lose(text);
      return;
    }
    this.#held += bytes;
    const last = this.#queue.at(-1);
    if (last === undefined || last.bytes + bytes > LOG_MAX_WRITE_BYTES) this.#queue.push({ text, bytes });
    else {
      last.text += text;
      last.bytes += bytes;
    }
    if (this.#state !== 'idle') return;
    this.#state = 'scheduled';
    setImmediate(() => this.#next());
  }

  /** Calls `report` with the number of lost lines once a failed or slow output works again. */
  reportGaps(report: (lost: number) => void): void {
    this.#report = report;
  }

  /**
   * Writes the waiting lines, for at most `limitMs`, and counts the rest as lost. It does not wait
   * for a full disk.
   */
  async finish(limitMs: number): Promise<Finished> {
    if (this.#state !== 'idle') {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onIdle = resolve;
      const limit = setTimeout(resolve, limitMs);
      if (this.#state === 'waiting') {
        clearTimeout(this.#retry);
        this.#next();
      }
      await promise;
      clearTimeout(limit);
      clearTimeout(this.#retry);
    }
    const delaysExit = this.#state === 'writing' && this.#sink.delaysExit();
    this.#loseAll();
    return { lost: this.#dropped - this.#reported, delaysExit };
  }

  #next(): void {
    const bytes = this.#current ?? Buffer.from(this.#queue.shift()?.text ?? '');
    if (bytes.length === 0) {
      this.#rest();
      return;
    }
    this.#current = bytes;
    this.#state = 'writing';
    this.#sink.write(bytes, (error, written = 0) => {
      if (error) this.#fail(error);
      else this.#advance(written);
    });
  }

  #advance(written: number): void {
    // Undefined if `finish` has discarded it in the meantime.
    const rest = this.#current?.subarray(written);
    this.#held -= (this.#current?.length ?? 0) - (rest?.length ?? 0);
    this.#current = rest?.length === 0 ? undefined : rest;
    if (written === 0) {
      this.#wait();
      return;
    }
    if (this.#hasGap && this.#held === 0) this.#reportGap();
    this.#next();
  }

  #reportGap(): void {
    this.#hasGap = false;
    const lost = this.#dropped - this.#reported;
    this.#reported = this.#dropped;
    this.#report(lost);
  }

  #fail(error: NodeJS.ErrnoException): void {
    this.#failed += 1;
    this.#hasGap = true;
    if (this.#failed === 1) this.#onFailure(error.code ?? error.name);
    const isLast = this.#onIdle !== undefined;
    if (isLast || !isRetried(error)) this.#loseAll();
    if (isLast) this.#rest();
    else this.#wait();
  }

  #wait(): void {
    this.#state = 'waiting';
    this.#retry = setTimeout(
      () => this.#next(),
      this.#onIdle === undefined ? this.#retryMs : LOG_LAST_RETRY_MS,
    ).unref();
  }

  #rest(): void {
    this.#state = 'idle';
    this.#onIdle?.();
  }

  #lose(lines: string | Buffer): void {
    this.#dropped += countLines(lines);
    this.#hasGap = true;
  }

  #loseAll(): void {
    if (this.#current !== undefined) this.#lose(this.#current);
    for (const { text } of this.#queue) this.#lose(text);
    this.#current = undefined;
    this.#queue = [];
    this.#held = 0;
  }
}

/** Counts line ends. A partly written line counts too, because its reader gets no whole line. */
function countLines(text: string | Buffer): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lines += 1;
  return lines;
}
