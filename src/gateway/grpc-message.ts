import type { ServerHttp2Stream } from 'node:http2';
import { type FailureStatus, failCall, STATUS } from './grpc-call.ts';

/** Larger than any request head; only a gateway that is told to send bodies along comes near (`with_request_body`). */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** How much is held of messages that come in pieces, in all. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;

/** Whether it is compressed, and four bytes for its length. */
const PREFIX_BYTES = 5;

type Fault = readonly [status: FailureStatus, text: string];
const TOO_LONG: Fault = [STATUS.RESOURCE_EXHAUSTED, 'the message is longer than 4 MiB'];
const TOO_MUCH: Fault = [STATUS.RESOURCE_EXHAUSTED, 'too many unfinished messages'];
const COMPRESSED: Fault = [STATUS.UNIMPLEMENTED, 'the message is compressed'];
const NOT_ONE: Fault = [STATUS.UNIMPLEMENTED, 'there is not one message'];
const CUT_SHORT: Fault = [STATUS.INTERNAL, 'the message ends too early'];
const LATE: Fault = [STATUS.DEADLINE_EXCEEDED, 'the message did not come in time'];

/** @returns a message as it is sent (`Length-Prefixed-Message` of gRPC over HTTP/2). @param message bytes, one a character. */
export function frame(message: string): Buffer {
  // Of its own, since it may be kept for long: a small one would be part of something larger.
  const bytes = Buffer.allocUnsafeSlow(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.write(message, PREFIX_BYTES, 'latin1');
  return bytes;
}

/** What has come of a message. */
class Assembly {
  /** As it came where it came in one piece; else a copy, with room for more. */
  #bytes: Buffer | undefined;
  #length = 0;
  /** How many bytes are held for it. */
  held = 0;

  add(piece: Buffer): Fault | undefined {
    if (this.#bytes === undefined) this.#bytes = piece;
    else this.#append(piece);
    this.#length += piece.length;
    if (this.#length >= PREFIX_BYTES) {
      if (this.#bytes[0] !== 0) return COMPRESSED;
      const length = this.#bytes.readUInt32BE(1);
      if (length > MAX_MESSAGE_BYTES) return TOO_LONG;
      if (this.#length > PREFIX_BYTES + length) return NOT_ONE;
      if (this.#length === PREFIX_BYTES + length) return undefined;
    }
    this.hold();
    return undefined;
  }

  /** Copies what has come in one piece and is still here: that is part of all that was read from the connection at once. */
  hold(): void {
    if (this.held === 0 && this.#bytes !== undefined) this.#grow(this.#length);
  }

  /** The message, once all has come; nothing of it is left here. */
  take(): Buffer | Fault {
    const bytes = this.#bytes;
    this.#bytes = undefined;
    if (bytes === undefined) return NOT_ONE;
    const isWhole = this.#length >= PREFIX_BYTES && this.#length === PREFIX_BYTES + bytes.readUInt32BE(1);
    return isWhole ? bytes.subarray(PREFIX_BYTES, this.#length) : CUT_SHORT;
  }

  #append(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (length > this.held) this.#grow(Math.max(length, 2 * this.held));
    piece.copy(this.#bytes as Buffer, this.#length);
  }

  #grow(size: number): void {
    const bytes = Buffer.allocUnsafeSlow(size);
    this.#bytes?.copy(bytes, 0, 0, this.#length);
    this.#bytes = bytes;
    this.held = size;
  }
}

/** Reads the messages of calls that have one. */
export interface MessageReader {
  /**
   * Calls `done` with the message once the whole of it has come, and nothing else; its bytes are to be copied if they are
   * kept. Else the call fails.
   */
  read(stream: ServerHttp2Stream, done: (message: Buffer) => void): void;
  /** Ends the calls that were begun before the last turn, and whose message has still not come. */
  turn(): void;
}

/**
 * Node's streams are there until the next full collection of garbage, long after their calls. What hangs on their listeners
 * is let go once it has been used, or it would be there as well, and collections twice as frequent.
 *
 * @param maxHeldBytes of messages that come in pieces, in all.
 */
export function messageReader(maxHeldBytes: number = MAX_HELD_BYTES): MessageReader {
  let begun = new Set<ServerHttp2Stream>();
  let begunBefore = new Set<ServerHttp2Stream>();
  let heldBytes = 0;
  let whole: (() => void)[] = [];
  // The end of a stream nearly always comes with the last of its message. Where it does not, it may be long in coming.
  const holdWhole = (): void => {
    const those = whole;
    whole = [];
    for (const hold of those) hold();
  };

  return {
    read(stream, done) {
      const assembly = new Assembly();
      let waiting: typeof done | undefined = done;
      begun.add(stream);

      const settle = (before: number, found: Fault | undefined): void => {
        let fault = found;
        if (assembly.held !== before) {
          if (before === 0)
            stream.once('close', () => {
              heldBytes -= assembly.held;
            });
          heldBytes += assembly.held - before;
          if (heldBytes > maxHeldBytes) fault ??= TOO_MUCH;
        }
        if (fault === undefined) return;
        stream.off('data', add).off('end', end).resume();
        assembly.take();
        failCall(stream, ...fault);
      };
      const hold = (): void => {
        const before = assembly.held;
        assembly.hold();
        settle(before, undefined);
      };
      const add = (piece: Buffer): void => {
        const before = assembly.held;
        settle(before, assembly.add(piece));
        if (assembly.held === 0 && whole.push(hold) === 1) setImmediate(holdWhole);
      };
      const end = (): void => {
        if (!begun.delete(stream)) begunBefore.delete(stream);
        const message = assembly.take();
        const tell = waiting as typeof done;
        waiting = undefined;
        if (Buffer.isBuffer(message)) tell(message);
        else failCall(stream, ...(message as Fault));
      };
      stream.on('data', add).on('end', end);
    },
    turn() {
      for (const stream of begunBefore) failCall(stream, ...LATE);
      begunBefore = begun;
      begun = new Set();
    },
  };
}
