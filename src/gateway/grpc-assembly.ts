import { type FailureStatus, STATUS } from './grpc-call.ts';

/** Larger than any request head; only a gateway that is told to send bodies along comes near (`with_request_body`). */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Whether it is compressed, and four bytes for its length. */
export const PREFIX_BYTES = 5;

/** Why a call fails. */
export type Fault = readonly [status: FailureStatus, text: string];
const TOO_LONG: Fault = [STATUS.RESOURCE_EXHAUSTED, 'the message is longer than 4 MiB'];
const COMPRESSED: Fault = [STATUS.UNIMPLEMENTED, 'the message is compressed'];
const NOT_ONE: Fault = [STATUS.UNIMPLEMENTED, 'there is not one message'];
const CUT_SHORT: Fault = [STATUS.INTERNAL, 'the message ends too early'];

/** What has come of a message. */
export class Assembly {
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
