import { MAX_KEPT_MESSAGE_BYTES, MAX_MESSAGE_FIELDS } from '../../../limits/constants.ts';
import { ProtobufError } from './protobuf.ts';

/** A field head is a tag of up to 5 bytes and a number of up to 10 bytes. */
const MAX_VARINT_BYTES = 10;
const MAX_FIELD_HEAD_BYTES = 15;

const NOTHING: Buffer = Buffer.alloc(0);

const VARINT = 0;
const FIXED_64 = 1;
const DELIMITED = 2;
const FIXED_32 = 5;

/**
 * A message on the path to the fields of the HTTP request, see
 * `envoy.service.auth.v3.CheckRequest`.
 */
interface Level {
  /** Number of the field that contains the next level; `undefined` at the innermost level. */
  readonly descend: number | undefined;
  /** The numbers of fields that are dropped as they arrive. */
  readonly skip: readonly number[];
}

/**
 * `AttributeContext.HttpRequest.body` and `raw_body`: the body of the request, if the gateway sends
 * it.
 */
const BODY_FIELDS = [11, 12];

const LEVELS: readonly Level[] = [
  { descend: 1, skip: [] },
  { descend: 4, skip: [] },
  { descend: 2, skip: [] },
  { descend: undefined, skip: BODY_FIELDS },
];

/**
 * Reads a large `CheckRequest` as it arrives and keeps everything except the body. The memory that
 * it holds therefore does not depend on the size of the body.
 */
export class LargeMessage {
  readonly #kept = LEVELS.map(() => new GrowingBuffer());
  /** Bytes that have not arrived yet of each open message, the outermost message first. */
  readonly #open: number[];
  /** The start of a field whose tag or length is incomplete. */
  #begun = NOTHING;
  /** Bytes of the current value that have not arrived yet, and whether the value is kept. */
  #valueBytes = 0;
  #keepsValue = false;
  #hasBody = false;
  #fields = 0;

  /** @param length of the message, in bytes. */
  constructor(length: number) {
    this.#open = [length];
  }

  /** The number of bytes that are held. */
  get keptBytes(): number {
    return this.#kept.reduce((bytes, { capacity }) => bytes + capacity, 0);
  }

  get isComplete(): boolean {
    return this.#open[0] === 0 && this.#valueBytes === 0 && this.#begun.length === 0;
  }

  /** Whether the head of the request is complete. Envoy sends it before the body. */
  get hasHead(): boolean {
    return this.#hasBody && this.#begun.length === 0 && !(this.#valueBytes > 0 && this.#keepsValue);
  }

  /**
   * @throws {ProtobufError} if the bytes are not a valid message, or if the kept part is too large.
   */
  add(piece: Buffer): void {
    for (let at = 0; at < piece.length; ) {
      if (this.#valueBytes === 0) {
        at = this.#field(piece, at);
        continue;
      }
      const end = Math.min(at + this.#valueBytes, piece.length);
      if (this.#keepsValue) this.#keep(piece, at, end);
      this.#valueBytes -= end - at;
      this.#advance(end - at);
      if (this.#valueBytes === 0) this.#close();
      at = end;
    }
  }

  /** Returns the kept part as a message. */
  take(): Buffer {
    let inner: Buffer | undefined;
    for (let index = LEVELS.length - 1; index >= 0; index -= 1) {
      const { descend } = LEVELS[index] as Level;
      const kept = this.#kept[index] as GrowingBuffer;
      if (inner !== undefined && descend !== undefined) {
        kept.append(Buffer.from([(descend << 3) | DELIMITED, ...writeVarint(inner.length)]));
        kept.append(inner);
      }
      inner = kept.bytes;
    }
    return inner as Buffer;
  }

  /** Reads a tag, and a length if there is one. @returns the offset of the value in the piece. */
  #field(piece: Buffer, at: number): number {
    const begun = this.#begun;
    if (begun.length === 0) {
      const end = this.#fieldHead(piece, at);
      if (end !== undefined) return end;
    }
    const bytes = Buffer.concat([begun, piece.subarray(at, at + MAX_FIELD_HEAD_BYTES)]);
    const end = begun.length === 0 ? undefined : this.#fieldHead(bytes, 0);
    if (end === undefined) {
      this.#begun = bytes;
      return piece.length;
    }
    this.#begun = NOTHING;
    return at + end - begun.length;
  }

  /** Reads a field head. @returns the offset of its end; `undefined` if it is incomplete. */
  #fieldHead(bytes: Buffer, from: number): number | undefined {
    const tag = readVarint(bytes, from);
    if (tag === undefined) return undefined;
    const number = Math.floor(tag.value / 8);
    if (number === 0) throw new ProtobufError('no field has this number');
    switch (tag.value % 8) {
      case VARINT: {
        let { end } = tag;
        while ((bytes[end] ?? 0) >= 0x80) end += 1;
        if (end - tag.end >= MAX_VARINT_BYTES) throw new ProtobufError('a number is too long');
        return end < bytes.length ? this.#begin(bytes, from, end + 1, 0) : undefined;
      }
      case FIXED_64:
        return this.#begin(bytes, from, tag.end, 8);
      case FIXED_32:
        return this.#begin(bytes, from, tag.end, 4);
      case DELIMITED: {
        const length = readVarint(bytes, tag.end);
        return length && this.#begin(bytes, from, length.end, length.value, number);
      }
      default:
        throw new ProtobufError('no value has this shape');
    }
  }

  /**
   * Starts the field whose head is in `bytes`.
   *
   * @param number of the field, if its value could be a message.
   * @returns the offset at which the head ends.
   */
  #begin(bytes: Buffer, from: number, end: number, valueBytes: number, number?: number): number {
    this.#fields += 1;
    if (this.#fields > MAX_MESSAGE_FIELDS) throw new ProtobufError('it has too many fields');
    const { descend, skip } = LEVELS[this.#open.length - 1] as Level;
    this.#advance(end - from);
    if (valueBytes > (this.#open.at(-1) as number)) throw new ProtobufError('a value goes on past the end');
    if (number !== undefined && number === descend) {
      this.#open.push(valueBytes);
    } else {
      const isBody = number !== undefined && skip.includes(number);
      this.#hasBody ||= isBody;
      this.#keepsValue = !isBody;
      this.#valueBytes = valueBytes;
      if (this.#keepsValue) this.#keep(bytes, from, end);
    }
    if (this.#valueBytes === 0) this.#close();
    return end;
  }

  #advance(bytes: number): void {
    for (let index = 0; index < this.#open.length; index += 1) (this.#open[index] as number) -= bytes;
    if ((this.#open.at(-1) as number) < 0) throw new ProtobufError('a value goes on past the end');
  }

  /** Closes the open messages that are complete. */
  #close(): void {
    while (this.#open.length > 1 && this.#open.at(-1) === 0) this.#open.pop();
  }

  #keep(bytes: Buffer, from: number, end: number): void {
    const kept = this.#kept[this.#open.length - 1] as GrowingBuffer;
    if (kept.length + end - from > MAX_KEPT_MESSAGE_BYTES) throw new ProtobufError('its head is too large');
    kept.append(bytes, from, end);
  }
}

/** Collects bytes that arrive in many small pieces, without an object for each piece. */
class GrowingBuffer {
  length = 0;
  #buffer = NOTHING;

  get capacity(): number {
    return this.#buffer.length;
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.length);
  }

  append(piece: Buffer, from = 0, end = piece.length): void {
    const length = this.length + end - from;
    if (length > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, 0, this.length);
      this.#buffer = larger;
    }
    piece.copy(this.#buffer, this.length, from, end);
    this.length = length;
  }
}

/** @returns the number (below 2³⁵) and the offset of its end; `undefined` if it is incomplete. */
function readVarint(bytes: Buffer, from: number): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let index = from; index < bytes.length; index += 1) {
    if (index - from === 5) throw new ProtobufError('a number is too long');
    const byte = bytes[index] as number;
    value += (byte & 0x7f) * 128 ** (index - from);
    if (byte < 0x80) return { value, end: index + 1 };
  }
  return undefined;
}

function writeVarint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 0x80);
  return [...bytes, rest];
}
