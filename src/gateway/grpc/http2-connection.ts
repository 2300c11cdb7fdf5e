import type { Socket } from 'node:net';
import type { Budget } from '../../limits/budget.ts';
import type { SharedConnection } from '../fair-turns.ts';
import { PacedConnection } from '../paced-connection.ts';
import type { FrameSource, FrameTurns, TurnShare } from './frame-turns.ts';

/** The client's connection preface (RFC 9113 §3.4), which comes before the first frame. */
const PREFACE_BYTES = 24;
/** Length, type, flags and stream of a frame (RFC 9113 §4.1). */
const FRAME_HEAD_BYTES = 9;
const HEADERS = 1;

/** What every connection may have waiting: part of what a connection costs. A flood by others must not close one for it. */
const UNRESERVED_BYTES = 4 * 1024;

/**
 * A connection between the network and Node's HTTP/2 session.
 *
 * Node hands a session all that the network has, up to 2 MiB in one turn of the event loop: thousands of requests, or a
 * hundred thousand frames that only cost time. This class passes on whole frames, a limited number in each turn, and takes
 * turns with the other connections.
 */
export class Http2Connection extends PacedConnection implements FrameSource {
  readonly #shared: SharedConnection;
  readonly #turnsOf: (shared: SharedConnection) => FrameTurns;
  readonly #requests: Budget;
  #unread: Buffer | undefined;
  #reservedBytes = 0;
  /** What is still to come of the preface or of the frame that has been begun. */
  #frameBytes = PREFACE_BYTES;
  #hasEnded = false;
  #isPaused = false;
  /** Has left the turns because the session reads no more for now. */
  #isBlocked = false;

  /**
   * @param turnsOf the connections with which a connection takes turns now.
   * @param requests for bytes that have been read and wait for their turn.
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
    // The session pauses while its own writes wait. What is passed on meanwhile would pile up without a limit.
    if (this.isPaused()) {
      this.#isBlocked = this.hold();
      return false;
    }
    const end = this.#measure(bytes, share);
    this.#unread = end < bytes.length ? bytes.subarray(end) : undefined;
    if (end > 0) this.push(bytes.subarray(0, end));
    if (this.destroyed) return false;
    if (this.#canPass()) return this.hold();
    // The beginning of a frame head would keep the whole chunk in memory.
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
    // A part of a chunk keeps all of it in memory.
    if (this.#reserve(Math.max(this.#reservedBytes, (this.#unread as Buffer).length - UNRESERVED_BYTES))) return true;
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

  /** Whether there are bytes that could be passed on: the rest of a frame, or the head of the next. */
  #canPass(): boolean {
    const length = this.#unread?.length ?? 0;
    return this.#frameBytes > 0 ? length > 0 : length >= FRAME_HEAD_BYTES;
  }

  /** @returns how many bytes may be passed on now. */
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
