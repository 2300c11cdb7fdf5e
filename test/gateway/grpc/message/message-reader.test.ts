import { once } from 'node:events';
import { constants, createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { SharedConnection } from '../../../../src/gateway/fair-turns.ts';
import { answerCall, failCall, GrpcCall, STATUS } from '../../../../src/gateway/grpc/grpc-call.ts';
import type { MessageFault } from '../../../../src/gateway/grpc/message/message-assembly.ts';
import { frame, readMessage } from '../../../../src/gateway/grpc/message/message-reader.ts';
import { Budget } from '../../../../src/limits/budget.ts';
import { HeldStreams } from '../../../../src/limits/held-streams.ts';
import { fakeClock } from '../../../fixtures/clock.ts';
import { answerTo, beginCall, framed, rawCall, rawSession } from '../../../fixtures/raw-call.ts';
import { until } from '../../../fixtures/until.ts';

/** Begins a call and reads its answer. */
function readCall(session: ReturnType<typeof rawSession>) {
  return beginCall(session).resume();
}

const OK = frame('fine');
const KIB = 1024;

interface Reading {
  readonly address: string;
  readonly budget: Budget;
  readonly held: HeldStreams;
  /** Copies of the messages as they were read. */
  readonly messages: Buffer[];
  readonly faults: MessageFault[];
  readonly streams: ServerHttp2Stream[];
}

/** Starts a server that answers each message with `fine` and fails calls without one. */
async function startReading(t: Test, maxBytes = 1024 * KIB, now = () => 0): Promise<Reading> {
  const budget = new Budget(maxBytes);
  const held = new HeldStreams(budget, now, 0);
  const messages: Buffer[] = [];
  const faults: MessageFault[] = [];
  const streams: ServerHttp2Stream[] = [];
  const server: Http2Server = createServer();
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', session => sessions.add(session));
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    streams.push(stream);
    const call = new GrpcCall(stream, headers, '', 0, new SharedConnection());
    stream.once('close', () => held.release(call));
    readMessage(call, held, message => {
      if (typeof message === 'string') {
        faults.push(message);
        failCall(stream, STATUS.INTERNAL, message);
        return;
      }
      messages.push(Buffer.from(message));
      answerCall(stream, OK);
      held.waits(call);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  const { port } = server.address() as AddressInfo;
  return { address: `127.0.0.1:${port}`, budget, held, messages, faults, streams };
}

/** A `CheckRequest` with a body of `bodyBytes`. */
function checkWith(bodyBytes: number): Buffer {
  const http = Buffer.concat([field(4, Buffer.from('/path')), field(11, Buffer.alloc(bodyBytes, 'b'))]);
  return field(1, field(4, field(2, http)));
}

function field(number: number, content: Buffer): Buffer {
  const length: number[] = [];
  let rest = content.length;
  for (; rest >= 0x80; rest >>= 7) length.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, rest]), content]);
}

t.test('a message is read the same, however it is split', async t => {
  const { address, messages } = await startReading(t);
  const session = rawSession(t, address);
  const message = Buffer.from(Array.from({ length: 5_000 }, (_, i) => i & 0xff));
  const whole = framed(message);
  for (const sizes of [[5005], [1, 1, 1, 1, 1, 5_000], [4, 5_001], [5, 5_000], [6, 1, 4_998], [3_000, 2_000, 5]]) {
    let end = 0;
    const pieces = sizes.map(size => {
      end += size;
      return whole.subarray(end - size, end);
    });
    const { status, body, headers } = await rawCall(session, {}, ...pieces);
    t.equal(status, '0', `${sizes}`);
    t.strictSame(body, OK);
    t.equal(headers['content-type'], 'application/grpc');
    t.strictSame(messages.pop(), message);
  }
  t.strictSame((await rawCall(session, {}, framed(Buffer.alloc(0)))).body, OK, 'an empty message is a message');
});

t.test('input that is not exactly one uncompressed message is a fault, and the connection stays usable', async t => {
  const { address, messages, faults } = await startReading(t);
  const session = rawSession(t, address);
  const whole = framed(Buffer.from('message'));
  const compressed = Buffer.from(whole);
  compressed[0] = 1;
  for (const pieces of [[], [whole.subarray(0, 3)], [whole.subarray(0, 9)], [compressed], [whole, whole]]) {
    t.equal((await rawCall(session, {}, ...pieces)).status, '13');
    t.equal(faults.pop(), 'undecodable');
  }
  const large = framed(checkWith(100 * KIB));
  t.equal((await rawCall(session, {}, large.subarray(0, 90 * KIB))).status, '13', 'a large message that is truncated');
  t.equal(
    (await rawCall(session, {}, framed(Buffer.alloc(100 * KIB, 7)))).status,
    '13',
    'a large message that is not protobuf',
  );
  t.strictSame(faults.splice(0), ['undecodable', 'undecodable']);
  t.equal(messages.length, 0);
  t.equal((await rawCall(session, {}, whole)).status, '0');
});

t.test('a body of 4 MiB is read within a budget of 8 KiB', async t => {
  const { address, budget, messages } = await startReading(t, 8 * KIB);
  const session = rawSession(t, address);
  t.equal((await rawCall(session, {}, framed(checkWith(4096 * KIB)))).status, '0');
  t.strictSame(
    messages,
    [checkWith(0).subarray(0, -2)].map(() => messages[0] as Buffer),
  );
  t.match((messages[0] as Buffer).toString('latin1'), /\/path/);
  t.ok((messages[0] as Buffer).length < 100);
  t.equal(budget.usedBytes, 0);
});

t.test('unfinished messages share one budget, and the oldest is given up for a new one', async t => {
  const { address, budget, faults } = await startReading(t, 60 * KIB);
  const sessions = [rawSession(t, address), rawSession(t, address)] as const;
  const unfinished = framed(Buffer.alloc(60 * KIB)).subarray(0, 30 * KIB);
  const first = readCall(sessions[0]);
  first.write(unfinished);
  await until(() => budget.usedBytes > 0);
  const second = readCall(sessions[1]);
  second.write(unfinished);
  await once(first, 'close');
  t.strictSame(faults, ['late']);
  t.ok(budget.usedBytes > 0 && budget.usedBytes <= 60 * KIB);
  const third = await rawCall(sessions[0], {}, framed(Buffer.alloc(64 * KIB)));
  t.equal(third.status, '13', 'a message that is larger than the budget');
  t.strictSame(faults.slice(1).toSorted(), ['late', 'no_room']);
  await until(() => budget.usedBytes === 0);
});

t.test('a complete message counts against the budget until its call ends', async t => {
  const { address, budget, messages } = await startReading(t);
  const call = readCall(rawSession(t, address));
  call.write(framed(Buffer.alloc(1000)));
  await until(() => budget.usedBytes >= 1000);
  t.equal(messages.length, 0);
  call.end();
  await once(call, 'close');
  t.equal(messages.length, 1);
  await until(() => budget.usedBytes === 0);
});

t.test('a message that does not arrive in time is a fault, unless only its body is missing', async t => {
  const clock = fakeClock();
  const { address, held, faults, messages, streams } = await startReading(t, 1024 * KIB, clock.now);
  const session = rawSession(t, address);
  const [silent, begun, withHead, inHead] = [0, 1, 2, 3].map(() => beginCall(session)) as [
    ReturnType<typeof beginCall>,
    ReturnType<typeof beginCall>,
    ReturnType<typeof beginCall>,
    ReturnType<typeof beginCall>,
  ];
  const large = framed(checkWith(100 * KIB));
  begun.write(framed(Buffer.from('x')).subarray(0, 4));
  withHead.write(large.subarray(0, 50 * KIB));
  inHead.write(large.subarray(0, 16));
  await until(() => streams.length === 4 && streams[2]?.readableFlowing === true);
  // The bytes of all four calls have arrived once a call sent after them is answered.
  t.equal((await rawCall(session, {}, framed(Buffer.from('y')))).status, '0');
  messages.length = 0;
  held.expire(1000);
  t.strictSame([faults.length, messages.length], [0, 0]);
  clock.advance(1001);
  const ended = Promise.all([silent, begun, withHead, inHead].map(answerTo));
  held.expire(1000);
  withHead.end();
  t.strictSame(
    (await ended).map(({ status }) => status),
    ['13', '13', '0', '13'],
  );
  t.strictSame(faults, ['late', 'late', 'late']);
  t.match(messages.map(String), [/\/path/]);
});

t.test('a call whose answer is not read in time is reset', async t => {
  const clock = fakeClock();
  const { address, held, budget, streams } = await startReading(t, 1024 * KIB, clock.now);
  const session = rawSession(t, address);
  session.settings({ initialWindowSize: 0 });
  await once(session, 'localSettings');
  const call = beginCall(session);
  call.end(framed(Buffer.from('x')));
  await until(() => streams[0]?.writableEnded === true);
  clock.advance(1001);
  held.expire(1000);
  await once(call, 'close');
  t.equal(call.rstCode, constants.NGHTTP2_CANCEL);
  await until(() => budget.usedBytes === 0);
});

t.test('a reset call releases its memory, however much of its message had arrived', async t => {
  const { address, budget, streams } = await startReading(t);
  const session = rawSession(t, address);
  const whole = framed(Buffer.alloc(1000));
  for (const bytes of [0, 3, 500, whole.length]) {
    const call = beginCall(session);
    const before = streams.length;
    if (bytes > 0) call.write(whole.subarray(0, bytes));
    await until(() => streams.length > before && (bytes === 0 || budget.usedBytes > 0));
    call.close(constants.NGHTTP2_CANCEL);
    await until(() => streams.at(-1)?.closed === true && budget.usedBytes === 0);
  }
});

t.test('failing or answering a call that has ended does not throw', async t => {
  const { address, streams } = await startReading(t);
  const call = beginCall(rawSession(t, address));
  await until(() => streams.length === 1);
  const [stream] = streams as [ServerHttp2Stream];
  call.close(constants.NGHTTP2_CANCEL);
  await until(() => stream.closed);
  t.doesNotThrow(() => failCall(stream, STATUS.INTERNAL, 'too late'));
  t.doesNotThrow(() => answerCall(stream, OK));
});
