import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import {
  decoded,
  delimitedField,
  message,
  numberField,
  ProtobufError,
  ProtobufReader,
  textBytes,
} from '../../../../src/gateway/grpc/message/protobuf.ts';
import { ENVOY_INCLUDES } from '../../../fixtures/envoy-client.ts';

/** Texts read from a message whose field 1 is a text and whose field 2 is such a message. */
interface Found {
  readonly texts: string[];
}

const LEAF = message<Found>({ 1: (reader, to, found) => found.texts.push(reader.text(reader.at, to)) });
const ROOT = message<Found>({ 1: (reader, to, found) => found.texts.push(reader.text(reader.at, to)), 2: LEAF });

function read(...bytes: (number | string)[]): string[] {
  const buffer = Buffer.concat(
    bytes.map(piece => (typeof piece === 'number' ? Buffer.of(piece) : Buffer.from(piece, 'latin1'))),
  );
  const found: Found = { texts: [] };
  ROOT(new ProtobufReader(buffer), buffer.length, found);
  return found.texts;
}

t.test('fields are read in order, including repeated and nested ones', async t => {
  t.strictSame(read(), []);
  t.strictSame(read(0x0a, 1, 'a', 0x12, 3, 0x0a, 1, 'b', 0x0a, 0), ['a', 'b', '']);
  t.strictSame(read(0x12, 0, 0x12, 3, 0x0a, 1, '\xff'), ['\xff'], 'each byte becomes one character');
});

t.test('unknown fields are skipped, whatever their wire type', async t => {
  const a = [0x0a, 1, 'a'] as const;
  for (const [title, ...bytes] of [
    ['a number', 0x18, 0x7f],
    ['a long number', 0x18, '\xff'.repeat(9), 1],
    ['eight bytes', 0x19, '12345678'],
    ['four bytes', 0x1d, '1234'],
    ['a text', 0x1a, 4, '\x0a\x01b\xff'],
    ['a field with a high number', '\xfa\xff\xff\xff\x0f', 1, 'b'],
    ['an empty group', 0x1b, 0x1c],
    ['a group that contains all of these', 0x1b, 0x0a, 1, 'b', 0x18, 1, 0x1d, '1234', 0x23, 0x0a, 1, 'c', 0x24, 0x1c],
    ['a known field that is a number', 0x08, 1],
    ['a known field that is a group', 0x0b, 0x0c],
  ] as const) {
    t.strictSame(read(...bytes, ...a), ['a'], title);
  }
});

t.test('malformed messages throw a ProtobufError', async t => {
  for (const [title, ...bytes] of [
    ['a tag that ends too early', 0x80],
    ['a tag that is too long', '\x8a\x80\x80\x80\x80', 0],
    ['a tag past 32 bits', '\xfa\xff\xff\xff\x1f', 0],
    ['field number 0', 0x02, 0],
    ['a length that ends too early', 0x0a, 0x80],
    ['a length that is too long', 0x0a, '\x80\x80\x80\x80\x80', 0],
    ['a text that exceeds the input', 0x0a, 2, 'a'],
    ['a text of 4 GiB', 0x0a, '\xff\xff\xff\xff\x0f', 'a'],
    ['a text that exceeds its message', 0x12, 2, 0x0a, 1, 'a'],
    ['a message that ends within a tag', 0x12, 1, 0x80, 0x01],
    ['an unknown text that exceeds the input', 0x1a, 2, 'a'],
    ['a fixed64 of seven bytes', 0x19, '1234567'],
    ['a fixed32 of three bytes', 0x1d, '123'],
    ['a fixed32 that exceeds its message', 0x12, 4, 0x1d, '123', '4'],
    ['a number that ends too early', 0x18, 0xff],
    ['a number of eleven bytes', 0x18, '\xff'.repeat(10), 1],
    ['a group that does not end', 0x1b, 0x08, 1],
    ['a group closed by the tag of another group', 0x1b, 0x24],
    ['an end tag without a group', 0x1c],
    ['wire type 6', 0x1e],
    ['wire type 7', 0x1f],
    ['groups nested 101 levels', '\x1b'.repeat(101), '\x1c'.repeat(101)],
  ] as const) {
    t.throws(() => read(...bytes), ProtobufError, title);
  }
  t.strictSame(read('\x1b'.repeat(100), '\x1c'.repeat(100)), [], 'groups nested 100 levels');
});

t.test('written fields are decoded by protobufjs', async t => {
  const loaded = loadSync('google/rpc/status.proto', { keepCase: true, includeDirs: [...ENVOY_INCLUDES] });
  const status = loaded['google.rpc.Status'] as unknown as { deserialize(bytes: Buffer): unknown };
  const texts = ['', 'a', 'é', '漢😀', 'x'.repeat(127), 'x'.repeat(128), 'é'.repeat(20_000)];
  for (const code of [0, 1, 127, 128, 16_383, 16_384, 2 ** 31 - 1]) {
    for (const text of texts) {
      const bytes = Buffer.from(numberField(1, code) + delimitedField(2, textBytes(text)), 'latin1');
      t.match(status.deserialize(bytes), { code, message: text });
    }
  }
});

t.test('decoded returns undefined for a ProtobufError and rethrows any other error', async t => {
  t.equal(
    decoded(() => 'message'),
    'message',
  );
  t.equal(
    decoded(() => {
      throw new ProtobufError('it ends too early');
    }),
    undefined,
  );
  t.throws(
    () =>
      decoded(() => {
        throw new TypeError('no field');
      }),
    { name: 'TypeError' },
  );
});
