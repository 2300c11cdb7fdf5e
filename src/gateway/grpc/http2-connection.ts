import type { Socket } from 'node:net';
import type { Budget } from '../../limits/budget.ts';
import { UNRESERVED_FRAME_BYTES } from '../../limits/constants.ts';
import type { SharedConnection } from '../fair-turns.ts';
import { PacedConnection } from '../paced-connection.ts';
import type { FrameSource, FrameTurns, TurnShare } from './frame-turns.ts';

/**
 * Length of the client's connection preface (RFC 9113 §3.4), which comes before the first frame, in
 * bytes.
 */
const PREFACE_BYTES = 24;
/**
 * Length of a frame header (RFC 9113 §4.1), in bytes: length, type, flags and stream of the frame.
 */
const FRAME_HEAD_BYTES = 9;
const HEADERS = 1;

/**
 * A connection between a socket and Node's HTTP/2 session.
 *
 * Node passes all bytes that have arrived to a session, up to 2 MiB in one event-loop iteration.
 * That can be thousands of requests, or a hundred thousand frames that only use CPU time. This
 * class passes on a limited number of frames in each iteration, and alternates with the other
 * connections.
 */
export class Http2Connection extends PacedConnection implements FrameSource {
  readonly #shared: SharedConnection;
  readonly #turnsOf: (shared: SharedConnection) => FrameTurns;
  readonly #requests: Budget;
  #unread: Buffer | undefined;
  #reservedBytes = 0;
  /** Bytes of the preface or of the current frame that have not been passed on. */
  #frameBytes = PREFACE_BYTES;
  #hasEnded = false;
  #isPaused = false;
  /** Whether the connection left the queue because its session does not read for now. */
  #isBlocked = false;

  /**
   * @param turnsOf returns the scheduler that a connection uses now.
   * @param requests budget for bytes that have been read and wait to be passed on.
   */
  constructor(
    socket: Socket,
    shared: SharedConnection,
    turnsOf: (shared: SharedConnection) => FrameTurns,
    requests: Budget,
  ) {
    super(socket);
    this.#shared = shared;
    this.on('resume', () => this.#unblock());
    this.#turnsOf = turnsOf;
    this.#requests = requests;
  }

  pass(share: TurnShare): boolean {
    const bytes = this.#unread;
    if (bytes === undefined) return false;
    // The session pauses while its own writes are blocked. Bytes that are passed on meanwhile would
    // accumulate without a limit.
    if (this.isPaused()) {
      this.#isBlocked = this.hold();
      return false;
    }
    const end = this.#measure(bytes, share);
    this.#unread = end < bytes.length ? bytes.subarray(end) : undefined;
    if (end > 0) this.push(bytes.subarray(0, end));
    if (this.destroyed) return false;
    if (this.#canPass()) return this.hold();
    // A slice with an incomplete frame header would keep the whole chunk in memory.
    if (this.#unread !== undefined) this.#unread = copyOf(this.#unread);
    this.#reserve(0);
    if (this.#isPaused) {
      this.#isPaused = false;
      this.socket.resume();
    }
    if (this.#hasEnded) this.push(null);
    return false;
  }

  hold(): boolean {
    this.#isPaused = true;
    this.socket.pause();
    // A slice of a chunk keeps the whole chunk in memory, so the reservation does not shrink here.
    if (this.#reserve(Math.max(this.#reservedBytes, (this.#unread as Buffer).length - UNRESERVED_FRAME_BYTES)))
      return true;
    this.destroy();
    return false;
  }

  override _writev(chunks: { readonly chunk: Buffer }[], callback: () => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'latin1', callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#unread = undefined;
    this.#isBlocked = false;
    this.#requests.release(this.#reservedBytes);
    this.#reservedBytes = 0;
    this.socket.destroy();
    callback(error);
  }

  protected override receive(chunk: Buffer): void {
    const isWaiting = this.#canPass();
    this.#unread = this.#unread === undefined ? chunk : Buffer.concat([this.#unread, chunk]);
    if (!isWaiting) this.#turnsOf(this.#shared).add(this);
  }

  /** Whether there are bytes to pass on: the rest of a frame, or a complete frame header. */
  #canPass(): boolean {
    const length = this.#unread?.length ?? 0;
    return this.#frameBytes > 0 ? length > 0 : length >= FRAME_HEAD_BYTES;
  }

  /**
   * Counts the frames that may be passed on now, and deducts them from the share.
   *
   * @returns the number of bytes that may be passed on.
   */
  #measure(bytes: Buffer, share: TurnShare): number {
    let end = 0;
    let frames = 0;
    let streams = 0;
    const { pass } = share;
    for (;;) {
      const part = Math.min(this.#frameBytes, bytes.length - end, pass.bytes - end);
      end += part;
      this.#frameBytes -= part;
      if (this.#frameBytes > 0 || bytes.length - end < FRAME_HEAD_BYTES) return end;
      const isStream = bytes[end + 3] === HEADERS;
      if (frames === pass.frames || share.frames === 0) return end;
      if (isStream && (streams === pass.streams || share.streams === 0)) return end;
      frames += 1;
      share.frames -= 1;
      if (isStream) {
        streams += 1;
        share.streams -= 1;
      }
      this.#frameBytes = FRAME_HEAD_BYTES + bytes.readUIntBE(end, 3);
    }
  }

  #reserve(bytes: number): boolean {
    if (!this.#requests.tryReserve(bytes - this.#reservedBytes, this.#shared.hasBeenAllowed)) return false;
    this.#reservedBytes = bytes;
    return true;
  }

  #unblock(): void {
    if (!this.#isBlocked) return;
    this.#isBlocked = false;
    this.#turnsOf(this.#shared).add(this);
  }

  protected override endInput(): void {
    this.#hasEnded = true;
    if (!this.#canPass()) this.push(null);
  }
}

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
