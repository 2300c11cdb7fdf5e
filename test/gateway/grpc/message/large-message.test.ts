import t from 'tap';
import { CheckRequest } from '../../../../src/gateway/grpc/message/check-request.ts';
import { LargeMessage } from '../../../../src/gateway/grpc/message/large-message.ts';
import { ProtobufError } from '../../../../src/gateway/grpc/message/protobuf.ts';
import { type Seeded, seeded } from '../../../fixtures/seeded-random.ts';

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 0x80);
  return Buffer.from([...bytes, rest]);
}

const field = (number: number, ...content: (Buffer | string)[]): Buffer => {
  const bytes = Buffer.concat(content.map(part => Buffer.from(part)));
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
};
const number = (id: number, value: number): Buffer => Buffer.concat([varint(id * 8), varint(value)]);
const fixed64 = (id: number): Buffer => Buffer.concat([varint(id * 8 + 1), Buffer.alloc(8, 7)]);
const fixed32 = (id: number): Buffer => Buffer.concat([varint(id * 8 + 5), Buffer.alloc(4, 7)]);

const entry = (name: string, value: string): Buffer => field(3, field(1, name), field(2, value));
/** A `CheckRequest` with these fields of `AttributeContext.HttpRequest`. */
const checkOf = (...http: Buffer[]): Buffer => field(1, field(4, field(2, ...http)));

/** Reads a message in pieces. @throws {ProtobufError} if it is malformed. */
function read(message: Buffer, split: () => number): LargeMessage {
  const large = new LargeMessage(message.length);
  for (let from = 0; from < message.length; ) {
    const to = from + split();
    large.add(message.subarray(from, to));
    from = to;
  }
  return large;
}

/** A check with fields in random order, with bodies, unknown fields and repeated messages. */
function randomCheck(random: Seeded): Buffer {
  const text = (): string => 'x'.repeat(random.below(random.pick([3, 300])));
  const parts: [() => Buffer, ...(() => Buffer)[]] = [
    () => entry(random.pick(['authorization', 'Authorization', 'x-other']), `Bearer ${text()}`),
    () => field(13, field(1, field(1, 'authorization'), field(3, text()))),
    () => field(1, text()),
    () => field(2, 'POST'),
    () => field(4, `/${text()}`),
    () => field(11, Buffer.alloc(random.below(5000), 'b')),
    () => field(12, Buffer.alloc(random.below(5000), 'r')),
    () => number(9, random.below(2 ** 31)),
    () => fixed64(20),
    () => fixed32(random.pick([21, 200_000])),
    () => field(99, text()),
  ];
  const http = (): Buffer => Buffer.concat(Array.from({ length: random.below(12) }, () => random.pick(parts)()));
  const source = field(1, field(1, field(1, field(2, '192.0.2.1'))));
  const requests = Array.from({ length: 1 + random.below(2) }, () =>
    field(4, fixed64(7), field(2, http()), number(8, 1), field(2, http())),
  );
  const attributes = random.below(2) === 0 ? [source, ...requests] : [...requests, source];
  return Buffer.concat([field(1, ...attributes), number(6, 3), field(1, field(4, field(2, http())))]);
}

t.test('a message read in pieces yields the same fields as the whole message (seeded)', async t => {
  const random = seeded(20_261_130);
  for (let round = 0; round < 1500; round += 1) {
    const message = randomCheck(random);
    const whole = new CheckRequest(message);
    const largest = random.pick([1, 3, 20, 2000, message.length]);
    const large = read(message, () => 1 + random.below(largest));
    if (!large.isComplete) t.fail(`round ${round}: not complete`);
    const parts = new CheckRequest(large.take());
    const fieldsOf = (check: CheckRequest): unknown => [check.authorization, check.address, check.details];
    if (JSON.stringify(fieldsOf(parts)) !== JSON.stringify(fieldsOf(whole))) {
      t.strictSame(fieldsOf(parts), fieldsOf(whole), `round ${round}`);
    }
  }
});

t.test('a body is not kept, and the head is complete before the body arrives', async t => {
  const message = checkOf(field(4, '/path'), entry('authorization', 'Bearer a'), field(11, Buffer.alloc(1000 * 1024)));
  const large = new LargeMessage(message.length);
  large.add(message.subarray(0, 20));
  t.notOk(large.hasHead);
  large.add(message.subarray(20, 5000));
  t.ok(large.hasHead);
  t.notOk(large.isComplete);
  large.add(message.subarray(5000));
  t.ok(large.isComplete);
  t.ok(large.keptBytes < 500, `${large.keptBytes}`);
  const check = new CheckRequest(large.take());
  t.strictSame(check.authorization, ['authorization', 'Bearer a']);
  t.equal(check.details.path, '/path');
});

t.test('a malformed message throws a ProtobufError, wherever it is split', async t => {
  const cases: Record<string, Buffer> = {
    'a field with the number 0': checkOf(Buffer.from([0x02, 0])),
    'a group': checkOf(Buffer.from([(5 << 3) | 3])),
    'a value that exceeds its message': field(1, field(4, Buffer.from([0x12, 50, 1]))),
    'a fixed value that exceeds its message': field(1, field(4, Buffer.from([0x09, 1]))),
    'a tag that exceeds its message': Buffer.concat([field(1, Buffer.from([0x80])), Buffer.from([1, 1])]),
    'a tag of more than five bytes': Buffer.concat([Buffer.alloc(8, 0xff), Buffer.alloc(30)]),
    'a length of more than five bytes': Buffer.concat([Buffer.from([0x0a]), Buffer.alloc(8, 0xff), Buffer.alloc(30)]),
    'a number without end': Buffer.concat([Buffer.from([0x08]), Buffer.alloc(40, 0xff)]),
    'more than 4,096 fields': checkOf(...Array.from({ length: 5000 }, () => number(9, 1))),
    'a head of more than 1 MiB': checkOf(entry('x', 'a'.repeat(1100 * 1024))),
  };
  for (const [name, message] of Object.entries(cases)) {
    for (const size of [1, 7, message.length]) {
      if (message.length / size > 100_000) continue;
      t.throws(() => read(message, () => size), ProtobufError, `${name}, ${size} bytes at a time`);
    }
  }
});
