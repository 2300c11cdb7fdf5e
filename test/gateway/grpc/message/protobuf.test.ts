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

/** What is read of a message whose field 1 is a text, and field 2 such a message. */
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

t.test('fields are read in their order, again where they come again, and within messages', async t => {
  t.strictSame(read(), []);
  t.strictSame(read(0x0a, 1, 'a', 0x12, 3, 0x0a, 1, 'b', 0x0a, 0), ['a', 'b', '']);
  t.strictSame(read(0x12, 0, 0x12, 3, 0x0a, 1, '\xff'), ['\xff'], 'a character for each byte');
});

t.test('what is not known is passed over, whatever its shape', async t => {
  const a = [0x0a, 1, 'a'] as const;
  for (const [title, ...bytes] of [
    ['a number', 0x18, 0x7f],
    ['a long number', 0x18, '\xff'.repeat(9), 1],
    ['eight bytes', 0x19, '12345678'],
    ['four bytes', 0x1d, '1234'],
    ['a text', 0x1a, 4, '\x0a\x01b\xff'],
    ['a field with a high number', '\xfa\xff\xff\xff\x0f', 1, 'b'],
    ['an empty group', 0x1b, 0x1c],
    ['a group with all of that in it', 0x1b, 0x0a, 1, 'b', 0x18, 1, 0x1d, '1234', 0x23, 0x0a, 1, 'c', 0x24, 0x1c],
    ['a known field that is a number', 0x08, 1],
    ['a known field that is a group', 0x0b, 0x0c],
  ] as const) {
    t.strictSame(read(...bytes, ...a), ['a'], title);
  }
});

t.test('what is malformed is refused', async t => {
  for (const [title, ...bytes] of [
    ['a tag that ends too early', 0x80],
    ['a tag that is too long', '\x8a\x80\x80\x80\x80', 0],
    ['a tag past 32 bits', '\xfa\xff\xff\xff\x1f', 0],
    ['field number 0', 0x02, 0],
    ['a length that ends too early', 0x0a, 0x80],
    ['a length that is too long', 0x0a, '\x80\x80\x80\x80\x80', 0],
    ['a text that goes on past the end', 0x0a, 2, 'a'],
    ['a text of 4 GiB', 0x0a, '\xff\xff\xff\xff\x0f', 'a'],
    ['a text that goes on past its message', 0x12, 2, 0x0a, 1, 'a'],
    ['a message that ends within a tag', 0x12, 1, 0x80, 0x01],
    ['an unknown text that goes on past the end', 0x1a, 2, 'a'],
    ['eight bytes that are seven', 0x19, '1234567'],
    ['four bytes that are three', 0x1d, '123'],
    ['four bytes that go on past their message', 0x12, 4, 0x1d, '123', '4'],
    ['a number that ends too early', 0x18, 0xff],
    ['a number of eleven bytes', 0x18, '\xff'.repeat(10), 1],
    ['a group that does not end', 0x1b, 0x08, 1],
    ['a group that another one ends', 0x1b, 0x24],
    ['a group that ends and did not begin', 0x1c],
    ['shape 6', 0x1e],
    ['shape 7', 0x1f],
    ['groups a hundred deep and one more', '\x1b'.repeat(101), '\x1c'.repeat(101)],
  ] as const) {
    t.throws(() => read(...bytes), ProtobufError, title);
  }
  t.strictSame(read('\x1b'.repeat(100), '\x1c'.repeat(100)), [], 'groups a hundred deep');
});

t.test('what is written, another reader reads', async t => {
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

t.test('bytes that are not a message decode to undefined, and another error is thrown', async t => {
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
