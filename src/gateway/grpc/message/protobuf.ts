/** Maximum depth of nested groups. */
const MAX_GROUPS = 100;

/** Wire types: the last three bits of a tag, which give the form of the value. */
const VARINT = 0;
const FIXED_64 = 1;
const DELIMITED = 2;
const GROUP_BEGINS = 3;
const GROUP_ENDS = 4;
const FIXED_32 = 5;

/** Thrown if bytes are not a valid message. */
export class ProtobufError extends Error {
  override readonly name = 'ProtobufError';
}

/**
 * Calls `decode`.
 *
 * @returns its result; `undefined` if the bytes are not the message that it decodes.
 */
export function decoded<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof ProtobufError) return undefined;
    throw error;
  }
}

/**
 * Reads a message in protobuf's wire format (https://protobuf.dev/programming-guides/encoding).
 * Malformed data throws a {@link ProtobufError}. No method reads past the given end.
 */
export class ProtobufReader {
  readonly #bytes: Buffer;
  /** Offset of the next byte. */
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Reads the next tag: the number of the field times eight, plus the wire type of its value. */
  tag(end: number): number {
    const tag = this.#varint(end);
    if (tag >>> 3 === 0 || tag > 0xffff_ffff) throw new ProtobufError('no field has this number');
    return tag;
  }

  /**
   * Reads the length of a value.
   *
   * @returns the offset at which the value ends.
   */
  delimited(end: number): number {
    const length = this.#varint(end);
    const to = this.at + length;
    if (to > end) throw new ProtobufError('a value goes on past the end');
    return to;
  }

  /** Returns the bytes from `from` to `to`, one character for each byte. */
  text(from: number, to: number): string {
    return this.#bytes.toString('latin1', from, to);
  }

  /** Skips the value of a field. */
  skip(tag: number, end: number): void {
    switch (tag & 7) {
      case VARINT:
        this.#skipVarint(end);
        break;
      case FIXED_64:
        this.at += 8;
        break;
      case DELIMITED:
        this.at = this.delimited(end);
        break;
      case GROUP_BEGINS:
        this.#skipGroup(tag, end);
        break;
      case FIXED_32:
        this.at += 4;
        break;
      default:
        throw new ProtobufError('no value has this shape');
    }
    if (this.at > end) throw new ProtobufError('a value goes on past the end');
  }

  #skipGroup(tag: number, end: number): void {
    const open = [tag >>> 3];
    while (open.length > 0) {
      const next = this.tag(end);
      const shape = next & 7;
      if (shape === GROUP_BEGINS) {
        if (open.push(next >>> 3) > MAX_GROUPS) throw new ProtobufError('groups lie too deep');
      } else if (shape === GROUP_ENDS) {
        if (open.pop() !== next >>> 3) throw new ProtobufError('another group ends than began');
      } else {
        this.skip(next, end);
      }
    }
  }

  /** Reads a number below 2³⁵. Tags and lengths are smaller. */
  #varint(end: number): number {
    let value = 0;
    for (let place = 1; place <= 2 ** 28; place *= 128) {
      const byte = this.#byte(end);
      if (byte < 0x80) return value + byte * place;
      value += (byte - 0x80) * place;
    }
    throw new ProtobufError('a number is too long');
  }

  #skipVarint(end: number): void {
    for (let length = 1; this.#byte(end) >= 0x80; length += 1) {
      if (length === 10) throw new ProtobufError('a number is too long');
    }
  }

  #byte(end: number): number {
    if (this.at >= end) throw new ProtobufError('it ends too early');
    const byte = this.#bytes[this.at] as number;
    this.at += 1;
    return byte;
  }
}

type ReadField<T> = (reader: ProtobufReader, to: number, into: T) => void;

/**
 * Creates a reader for the given fields of a message, by their numbers. These fields must be
 * length-delimited. Other fields are skipped, and so are fields with another wire type. A repeated
 * field is read each time.
 */
export function message<T>(fields: Readonly<Record<number, ReadField<T>>>): ReadField<T> {
  const byTag: ReadField<T>[] = [];
  for (const [number, read] of Object.entries(fields)) byTag[(Number(number) << 3) | DELIMITED] = read;
  return (reader, end, into) => {
    while (reader.at < end) {
      const tag = reader.tag(end);
      const read = byTag[tag];
      if (read === undefined) {
        reader.skip(tag, end);
        continue;
      }
      const to = reader.delimited(end);
      read(reader, to, into);
      reader.at = to;
    }
  };
}

/**
 * Encodes a field whose value is a text or a message.
 *
 * @param value one character for each byte.
 */
export function delimitedField(number: number, value: string): string {
  return String.fromCharCode((number << 3) | DELIMITED) + varint(value.length) + value;
}

/** Encodes a field whose value is an integer from 0 to 2³¹ - 1. */
export function numberField(number: number, value: number): string {
  return String.fromCharCode((number << 3) | VARINT) + varint(value);
}

/** Encodes text as UTF-8, one character for each byte. */
export function textBytes(text: string): string {
  // Most text is ASCII, which needs no conversion.
  return /^[\0-\x7f]*$/.test(text) ? text : Buffer.from(text, 'utf8').toString('latin1');
}

function varint(value: number): string {
  let bytes = '';
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes += String.fromCharCode((rest & 0x7f) | 0x80);
  return bytes + String.fromCharCode(rest);
}
