import { LargeMessage } from './large-message.ts';

/** A message up to this length is kept whole until it is read, in bytes; of a larger one, all but the body. */
const MAX_WHOLE_BYTES = 64 * 1024;

/** Whether it is compressed, and four bytes for its length. */
export const PREFIX_BYTES = 5;

/** Why there is no message: what came is not one (`undecodable`), not all has come in time, or there is no room for it. */
export type MessageFault = 'undecodable' | 'late' | 'no_room';

/** What has come of a message (`Length-Prefixed-Message` of gRPC over HTTP/2). */
export class Assembly {
  /** As it came if it came in one piece; else a copy, with room for more. */
  #bytes: Buffer | undefined;
  #large: LargeMessage | undefined;
  #length = 0;
  #copiedBytes = 0;

  /** How many bytes are held for it. */
  get held(): number {
    return this.#copiedBytes + (this.#large?.keptBytes ?? 0);
  }

  /** @returns `undecodable` if this cannot become a message any more: compressed, more than one, or not protobuf. */
  add(piece: Buffer): MessageFault | undefined {
    this.#length += piece.length;
    if (this.#large !== undefined) return this.#addLarge(this.#large, piece);
    if (this.#bytes === undefined) this.#bytes = piece;
    else this.#append(piece);
    if (this.#length >= PREFIX_BYTES) {
      if (this.#bytes[0] !== 0) return 'undecodable';
      const length = this.#bytes.readUInt32BE(1);
      if (this.#length > PREFIX_BYTES + length) return 'undecodable';
      if (length > MAX_WHOLE_BYTES) return this.#becomeLarge(length);
      if (this.#length === PREFIX_BYTES + length) return undefined;
    }
    this.hold();
    return undefined;
  }

  /** Copies what has come in one piece and is still here: that is part of all that was read from the connection at once. */
  hold(): void {
    if (this.#copiedBytes === 0 && this.#bytes !== undefined) this.#grow(this.#length);
  }

  /** The message, once all has come; nothing of it is left here. */
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

  /** The head of the request, if that has come and only the body is missing. */
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
      // All that it throws are ProtobufErrors.
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
