import { message, ProtobufReader } from './protobuf.ts';

const KEY = (1 << 3) | 2;
const VALUE = (2 << 3) | 2;
const RAW_VALUE = (3 << 3) | 2;

const AUTHORIZATION = 'authorization';

/**
 * Further attributes of the checked request. An attribute is empty if the message does not contain
 * it.
 */
export interface CheckDetails {
  id: string;
  method: string;
  path: string;
  /** A flat list of names and values. */
  readonly headers: string[];
}

type Part = 'address' | 'id' | 'method' | 'path';

/**
 * Receives the parts of a message. For `part`, the reader is at the start of the value. For
 * `header`, all positions are offsets.
 */
interface Visitor {
  part(part: Part, reader: ProtobufReader, to: number): void;
  header(reader: ProtobufReader, keyFrom: number, keyTo: number, from: number, to: number): void;
}

/**
 * The parts of `envoy.service.auth.v3.CheckRequest` that gatecar reads. Each byte becomes one
 * character, as in node:http. Values that are not ASCII are rejected later and not repaired here.
 */
export class CheckRequest {
  /**
   * Every `authorization` header, as a flat list of names and values. Envoy fills one of two
   * fields: a map or, with `encode_raw_headers`, a list. gatecar reads all entries of both fields,
   * so two credentials are always detected as two.
   */
  readonly authorization: string[] = [];
  /** The client's address as Envoy sees it; empty if there is none. */
  address = '';
  #bytes: Buffer;

  /**
   * @throws {ProtobufError} if the bytes are not a valid message, including the parts that
   *   `details` reads later.
   */
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    walk(bytes, this);
  }

  /** Reads the message a second time, because most requests do not need the details. */
  get details(): CheckDetails {
    const details: CheckDetails = { id: '', method: '', path: '', headers: [] };
    walk(this.#bytes, {
      part(part, reader, to) {
        if (part !== 'address') details[part] = reader.text(reader.at, to);
      },
      header(reader, keyFrom, keyTo, from, to) {
        details.headers.push(reader.text(keyFrom, keyTo), reader.text(from, to));
      },
    });
    return details;
  }

  /** The size of the message that is kept for {@link details}, in bytes. */
  get size(): number {
    return this.#bytes.length;
  }

  /**
   * Copies the message of a call that waits. Otherwise the message would keep in memory the much
   * larger buffer that was read from the connection.
   */
  keep(): void {
    this.#bytes = Buffer.from(this.#bytes);
  }

  part(part: Part, reader: ProtobufReader, to: number): void {
    if (part === 'address') this.address = reader.text(reader.at, to);
  }

  header(reader: ProtobufReader, keyFrom: number, keyTo: number, from: number, to: number): void {
    if (keyTo - keyFrom !== AUTHORIZATION.length) return;
    const name = reader.text(keyFrom, keyTo);
    if (name.toLowerCase() === AUTHORIZATION) this.authorization.push(name, reader.text(from, to));
  }
}

/** Reads an entry of a map of headers or, with `raw_value`, of a list of headers. */
function header(reader: ProtobufReader, end: number, visitor: Visitor, isEntry: boolean): void {
  let keyFrom = 0;
  let keyTo = 0;
  let from = 0;
  let to = 0;
  let rawFrom = 0;
  let rawTo = 0;
  while (reader.at < end) {
    const tag = reader.tag(end);
    if (tag === KEY) {
      keyTo = reader.delimited(end);
      keyFrom = reader.at;
      reader.at = keyTo;
    } else if (tag === VALUE) {
      to = reader.delimited(end);
      from = reader.at;
      reader.at = to;
    } else if (tag === RAW_VALUE && !isEntry) {
      rawTo = reader.delimited(end);
      rawFrom = reader.at;
      reader.at = rawTo;
    } else {
      reader.skip(tag, end);
    }
  }
  if (from === to) visitor.header(reader, keyFrom, keyTo, rawFrom, rawTo);
  else visitor.header(reader, keyFrom, keyTo, from, to);
}

const text =
  (part: Part) =>
  (reader: ProtobufReader, to: number, visitor: Visitor): void =>
    visitor.part(part, reader, to);

// The keys are field numbers. `test/gateway/grpc/message/check-request.test.ts` compares them with
// the official protobuf files.
const SOCKET_ADDRESS = message({ 2: text('address') });
const ADDRESS = message({ 1: SOCKET_ADDRESS });
const PEER = message({ 1: ADDRESS });
const HEADER_MAP = message<Visitor>({ 1: (reader, to, visitor) => header(reader, to, visitor, false) });
const HTTP = message({
  1: text('id'),
  2: text('method'),
  3: (reader, to, visitor) => header(reader, to, visitor, true),
  4: text('path'),
  13: HEADER_MAP,
});
const REQUEST = message({ 2: HTTP });
const ATTRIBUTES = message({ 1: PEER, 4: REQUEST });
const CHECK_REQUEST = message({ 1: ATTRIBUTES });

function walk(bytes: Buffer, visitor: Visitor): void {
  CHECK_REQUEST(new ProtobufReader(bytes), bytes.length, visitor);
}
