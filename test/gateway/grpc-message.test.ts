import { EventEmitter, once } from 'node:events';
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t, { type Test } from 'tap';
import { answerCall } from '../../src/gateway/grpc-call.ts';
import { frame, type MessageReader, messageReader } from '../../src/gateway/grpc-message.ts';
import { answerTo, beginCall, framed, rawCall, rawSession } from '../fixtures/raw-call.ts';
import { until } from '../fixtures/until.ts';

const OK = frame('fine');
const MIB = 1024 * 1024;

interface Reading {
  readonly address: string;
  readonly reader: MessageReader;
  /** As they were when they were read. */
  readonly messages: Buffer[];
  readonly streams: ServerHttp2Stream[];
}

/** A server that reads messages and answers each with `fine`. */
async function startReading(t: Test, reader: MessageReader = messageReader()): Promise<Reading> {
  const messages: Buffer[] = [];
  const streams: ServerHttp2Stream[] = [];
  const server: Http2Server = createServer();
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', session => sessions.add(session));
  server.on('stream', stream => {
    stream.on('error', () => {});
    streams.push(stream);
    reader.read(stream, message => {
      messages.push(Buffer.from(message));
      answerCall(stream, OK);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, reader, messages, streams };
}

t.test('a message is the same in however many pieces it comes', async t => {
  const { address, messages } = await startReading(t);
  const session = rawSession(t, address);
  const message = Buffer.from(Array.from({ length: 5_000 }, (_, i) => i & 0xff));
  const whole = framed(message);
  for (const sizes of [[5005], [1, 1, 1, 1, 1, 5_000], [4, 5_001], [5, 5_000], [6, 1, 4_998], [3_000, 2_000, 5]]) {
    let at = 0;
    const pieces = sizes.map(size => {
      at += size;
      return whole.subarray(at - size, at);
    });
    const { status, body, headers } = await rawCall(session, {}, ...pieces);
    t.equal(status, '0', `${sizes}`);
    t.strictSame(body, OK);
    t.match(headers, { ':status': 200, 'content-type': 'application/grpc' });
    t.ok(messages.pop()?.equals(message), `${sizes}`);
  }
  const bytewise = await rawCall(session, {}, ...Array.from(framed(message.subarray(0, 300)), byte => Buffer.of(byte)));
  t.equal(bytewise.status, '0');
  t.ok(messages.pop()?.equals(message.subarray(0, 300)));
  t.equal((await rawCall(session, {}, framed(Buffer.alloc(0)))).status, '0', 'an empty one');
  t.equal(messages.pop()?.length, 0);
});

t.test('what is not one whole message fails, and the connection goes on', async t => {
  const { address, messages } = await startReading(t);
  const session = rawSession(t, address);
  const one = framed(Buffer.from('abc'));
  for (const [title, status, ...pieces] of [
    ['none', '12'],
    ['a prefix that is cut', '13', one.subarray(0, 4)],
    ['a prefix alone', '13', one.subarray(0, 5)],
    ['a message that is cut', '13', one.subarray(0, 7)],
    ['two in one piece', '12', Buffer.concat([one, one])],
    ['two in two', '12', one, one],
    ['one and a byte', '12', one, Buffer.of(0)],
    ['compressed', '12', framed(Buffer.from('abc'), 1)],
    ['neither compressed nor not', '12', framed(Buffer.from('abc'), 2)],
  ] as const) {
    const answer = await rawCall(session, {}, ...pieces);
    t.match(answer, { status, headers: { ':status': 200, 'content-type': 'application/grpc' } }, title);
    t.equal(answer.code, 0, 'it is no error of HTTP/2');
    if (status === '12') t.equal(answer.headers['grpc-accept-encoding'], 'identity');
  }
  t.strictSame(messages, []);
  t.equal((await rawCall(session, {}, one)).status, '0');
});

t.test('4 MiB are read; one byte more is refused as soon as it is announced', async t => {
  const { address, messages } = await startReading(t);
  const session = rawSession(t, address);
  t.equal((await rawCall(session, {}, framed(Buffer.alloc(4 * MIB)))).status, '0');
  t.equal(messages.pop()?.length, 4 * MIB);
  const announced = Buffer.alloc(5);
  announced.writeUInt32BE(4 * MIB + 1, 1);
  const stream = beginCall(session);
  const answer = answerTo(stream);
  stream.write(announced);
  t.match(await answer, { status: '8', code: 0 }, 'without a byte of it');
});

t.test('what is unfinished is bounded in all, whoever sends it, and let go with its call', async t => {
  const { address } = await startReading(t, messageReader(2 * MIB));
  const unfinished = framed(Buffer.alloc(MIB)).subarray(0, -1);
  const session = rawSession(t, address);
  const other = rawSession(t, address);
  const first = beginCall(session);
  await new Promise(resolve => first.write(unfinished, resolve));
  const failed = await rawCall(other, {}, unfinished, Buffer.of(0));
  t.match(failed, { status: '8' });
  first.close();
  await until(async () => (await rawCall(other, {}, unfinished, Buffer.of(0))).status === '0');
});

t.test('a whole message whose call does not end is bounded likewise', async t => {
  const { address, messages } = await startReading(t, messageReader(2 * MIB));
  const session = rawSession(t, address);
  const whole = framed(Buffer.alloc(10_000));
  const first = Array.from({ length: 300 }, () => beginCall(session));
  const answers = first.map(answerTo);
  for (const call of first) call.write(whole);
  const failed = await Promise.race(answers);
  t.match(failed, { status: '8', code: 0 });
  t.equal(messages.length, 0);
  for (const call of first) call.close();
  await until(async () => (await rawCall(session, {}, whole)).status === '0');
});

t.test('who has not sent a whole message between this turn and the last but one has none', async t => {
  const { address, reader, streams } = await startReading(t);
  const session = rawSession(t, address);
  const silent = beginCall(session);
  const answer = answerTo(silent);
  await until(() => streams.length === 1);
  reader.turn();
  const later = beginCall(session);
  later.write(framed(Buffer.from('abc')).subarray(0, 6));
  await until(() => streams.length === 2);
  t.equal((await rawCall(session, {}, framed(Buffer.from('abc')))).status, '0');
  reader.turn();
  t.match(await answer, { status: '4', code: 0 });
  const last = answerTo(later);
  later.end('bc');
  t.match(await last, { status: '0' });
  reader.turn();
  reader.turn();
});

t.test('who leaves is not answered', async t => {
  const { address, messages, streams } = await startReading(t);
  const session = rawSession(t, address);
  const gone = beginCall(session);
  gone.write(framed(Buffer.from('abc')).subarray(0, 6));
  await until(() => streams.length === 1);
  gone.close(8);
  await until(() => streams[0]?.destroyed === true);
  // Whole, and gone in the same breath.
  const sent = beginCall(session);
  sent.end(framed(Buffer.from('abc')));
  sent.close(8);
  await until(() => streams.length === 2 && streams[1]?.destroyed === true);
  t.equal((await rawCall(session, {}, framed(Buffer.from('abc')))).status, '0');
  t.ok(messages.length >= 1);
});

/** A stream that was reset: it closes, and comes to no end. */
function reset(reader: MessageReader, ...pieces: Buffer[]): WeakRef<object> {
  const stream = Object.assign(new EventEmitter(), { destroyed: false });
  reader.read(stream as unknown as ServerHttp2Stream, () => t.fail('there is no message'));
  for (const piece of pieces) stream.emit('data', piece);
  stream.destroyed = true;
  stream.emit('close');
  return new WeakRef(stream);
}

t.test('a call that is reset leaves nothing behind, however far it had come', async t => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const reader = messageReader(100_000);
  const whole = framed(Buffer.alloc(40_000));
  const refs: WeakRef<object>[] = [];
  const resetAll = () => {
    for (let round = 0; round < 10; round += 1) {
      refs.push(reset(reader), reset(reader, whole), reset(reader, whole.subarray(0, -1)));
      refs.push(reset(reader, whole.subarray(0, 3), whole.subarray(3, -1)));
    }
  };
  resetAll();
  await until(() => {
    collect();
    return refs.every(ref => ref.deref() === undefined);
  });
  const { address } = await startReading(t, reader);
  const session = rawSession(t, address);
  const { status } = await rawCall(session, {}, whole.subarray(0, 20_000), whole.subarray(20_000));
  t.equal(status, '0', 'nor does it count among what is held');
  reader.turn();
  reader.turn();
});

t.test('a stream that is still there has nothing of its message, nor of who waited for it', async t => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const stream = Object.assign(new EventEmitter(), { destroyed: true });
  const refs: WeakRef<object>[] = [];
  const read = () => {
    const call = { told: 0 };
    refs.push(new WeakRef(call));
    messageReader().read(stream as unknown as ServerHttp2Stream, message => {
      call.told += 1;
      refs.push(new WeakRef(message.buffer));
    });
    stream.emit('data', framed(Buffer.alloc(100_000)));
    stream.emit('end');
  };
  read();
  t.equal(refs.length, 2);
  await until(() => {
    collect();
    return refs.every(ref => ref.deref() === undefined);
  });
  t.equal(stream.listenerCount('data'), 1, 'its listeners are there');
});
