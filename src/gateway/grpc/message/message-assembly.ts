import { MAX_WHOLE_MESSAGE_BYTES } from '../../../limits/constants.ts';
import { LargeMessage } from './large-message.ts';

/**
 * Length of the prefix of a message, in bytes: a compression flag, and four bytes for the length of
 * the message.
 */
export const PREFIX_BYTES = 5;

/**
 * Why there is no message. The data is not a valid message (`undecodable`), it is not complete in
 * time (`late`), or the memory budget is exhausted (`no_room`).
 */
export type MessageFault = 'undecodable' | 'late' | 'no_room';

/** The received part of a message (`Length-Prefixed-Message` of gRPC over HTTP/2). */
export class Assembly {
  /** The received piece if there is only one; otherwise a copy with spare capacity. */
  #bytes: Buffer | undefined;
  #large: LargeMessage | undefined;
  #length = 0;
  #copiedBytes = 0;

  /** The number of bytes that are held for the message. */
  get held(): number {
    return this.#copiedBytes + (this.#large?.keptBytes ?? 0);
  }

  /**
   * Adds a piece of the message.
   *
   * @returns `undecodable` if the data cannot become a valid message: it is compressed, more than
   *   one message, or not protobuf.
   */
  add(piece: Buffer): MessageFault | undefined {
    this.#length += piece.length;
    if (this.#large !== undefined) return this.#addLarge(this.#large, piece);
    if (this.#bytes === undefined) this.#bytes = piece;
    else this.#append(piece);
    if (this.#length >= PREFIX_BYTES) {
      if (this.#bytes[0] !== 0) return 'undecodable';
      const length = this.#bytes.readUInt32BE(1);
      if (this.#length > PREFIX_BYTES + length) return 'undecodable';
      if (length > MAX_WHOLE_MESSAGE_BYTES) return this.#becomeLarge(length);
      if (this.#length === PREFIX_BYTES + length) return undefined;
    }
    this.hold();
    return undefined;
  }

  /**
   * Copies a single received piece that has not been taken yet. The piece is part of a larger
   * buffer that was read from the connection.
   */
  hold(): void {
    if (this.#copiedBytes === 0 && this.#bytes !== undefined) this.#grow(this.#length);
  }

  /** Returns the message if it is complete, and drops everything that is held. */
  take(): Buffer | MessageFault {
    const bytes = this.#bytes;
    const large = this.#large;
    this.#bytes = undefined;
    this.#large = undefined;
    this.#copiedBytes = 0;
    if (large !== undefined) return large.isComplete ? large.take() : 'undecodable';
    if (bytes === undefined) return 'undecodable';
    const isWhole = this.#length >= PREFIX_BYTES && this.#length === PREFIX_BYTES + bytes.readUInt32BE(1);
    return isWhole ? bytes.subarray(PREFIX_BYTES, this.#length) : 'undecodable';
  }

  /** Returns the head of the request if it is complete and only the body is missing. */
  takeHead(): Buffer | undefined {
    return this.#large?.hasHead ? this.#large.take() : undefined;
  }

  #becomeLarge(length: number): MessageFault | undefined {
    this.#large = new LargeMessage(length);
    const begin = (this.#bytes as Buffer).subarray(PREFIX_BYTES, this.#length);
    this.#bytes = undefined;
    this.#copiedBytes = 0;
    return this.#addLarge(this.#large, begin);
  }

  #addLarge(large: LargeMessage, piece: Buffer): MessageFault | undefined {
    try {
      large.add(piece);
      return undefined;
    } catch {
      // `add` throws only a ProtobufError.
      return 'undecodable';
    }
  }

  #append(piece: Buffer): void {
    const from = this.#length - piece.length;
    if (this.#length > this.#copiedBytes) this.#grow(Math.max(this.#length, 2 * this.#copiedBytes), from);
    piece.copy(this.#bytes as Buffer, from);
  }

  #grow(size: number, length: number = size): void {
    const bytes = Buffer.allocUnsafeSlow(size);
    this.#bytes?.copy(bytes, 0, 0, length);
    this.#bytes = bytes;
    this.#copiedBytes = size;
  }
}
