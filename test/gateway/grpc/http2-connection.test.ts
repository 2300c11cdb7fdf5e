import { once } from 'node:events';
import { connect as connectHttp2, performServerHandshake, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { SharedConnection } from '../../../src/gateway/fair-turns.ts';
import { type FrameLimits, FrameTurns, type TurnShare } from '../../../src/gateway/grpc/frame-turns.ts';
import { Http2Connection } from '../../../src/gateway/grpc/http2-connection.ts';
import { Budget } from '../../../src/limits/budget.ts';
import { type Seeded, seeded } from '../../fixtures/seeded-random.ts';
import { until } from '../../fixtures/until.ts';

const KIB = 1024;
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const DATA = 0;
const HEADERS = 1;
const PING = 6;

function frame(type: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  return Buffer.concat([head, payload]);
}

const times = (count: number, bytes: Buffer): Buffer => Buffer.concat(Array<Buffer>(count).fill(bytes));

interface Opened {
  readonly client: Socket;
  readonly connection: Http2Connection;
}

interface StartOptions {
  readonly requests?: Budget;
  readonly turns?: FrameTurns;
  readonly allowHalfOpen?: boolean;
}

function shareOf(limits: FrameLimits): TurnShare {
  return { ...limits, ms: 10_000, pass: { frames: 16, streams: 1, bytes: 32 * KIB } };
}

/** Listens, and pairs each client with the connection on the server's side. */
async function start(t: Test, { requests = new Budget(KIB * KIB), turns, allowHalfOpen = false }: StartOptions = {}) {
  const frameTurns = turns ?? new FrameTurns(shareOf({ frames: 256, streams: 12 }));
  const server = createServer({ allowHalfOpen }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const open = async (): Promise<Opened> => {
    const accepted = once(server, 'connection');
    const client = connect(port, '127.0.0.1').on('error', () => {});
    const [socket] = await accepted;
    const connection = new Http2Connection(socket, new SharedConnection(), () => frameTurns, requests);
    connection.on('error', () => {});
    t.teardown(() => {
      client.destroy();
      connection.destroy();
    });
    return { client, connection };
  };
  return { server, open, requests };
}

/** Collects the pieces that the connection passes on. */
function piecesOf(connection: Http2Connection): Buffer[] {
  const pieces: Buffer[] = [];
  connection.on('data', (piece: Buffer) => pieces.push(piece));
  return pieces;
}

const lengthOf = (pieces: readonly Buffer[]): number => pieces.reduce((bytes, { length }) => bytes + length, 0);

/** Turns that pass only when the test says so. */
function steppedTurns(limits: FrameLimits) {
  let next: (() => void) | undefined;
  const atTurnEnd = (callback: () => void): void => {
    next = callback;
  };
  const turns = new FrameTurns(shareOf(limits), { atTurnEnd, afterPass: callback => callback() });
  return {
    turns,
    step(): void {
      const callback = next;
      next = undefined;
      callback?.();
    },
  };
}

t.test('bytes are passed on unchanged, and the head of a frame is never split', async t => {
  const random = seeded(1);
  const sizes = Array.from({ length: 40 }, () => random.below(random.pick([1, 40, 1000])));
  const frames = sizes.map((size, index) => frame(random.pick([DATA, HEADERS, PING]), Buffer.alloc(size, index)));
  const sent = Buffer.concat([PREFACE, ...frames]);
  const heads: number[] = [];
  let offset = PREFACE.length;
  for (const { length } of frames) {
    heads.push(offset);
    offset += length;
  }
  const { open } = await start(t);
  for (const largest of [1, 10, 200, sent.length]) {
    const { client, connection } = await open();
    client.setNoDelay(true);
    const pieces = piecesOf(connection);
    for (let from = 0; from < sent.length; ) {
      const to = from + 1 + random.below(largest);
      client.write(sent.subarray(from, to));
      from = Math.min(to, sent.length);
      while (connection.socket.bytesRead < from) await turn();
    }
    await until(() => lengthOf(pieces) === sent.length);
    t.ok(Buffer.concat(pieces).equals(sent), `pieces of up to ${largest} bytes`);
    let end = 0;
    const cut = pieces.filter(({ length }) => {
      end += length;
      return heads.some(head => end > head && end < head + 9);
    });
    t.equal(cut.length, 0, 'no piece ends within a frame head');
  }
});

t.test('each connection passes on one request per round, however many it has sent', async t => {
  const { turns, step } = steppedTurns({ frames: 100, streams: 4 });
  const { open, requests } = await start(t, { turns });
  const request = frame(HEADERS, Buffer.alloc(20));
  const order: string[] = [];
  const sendRequests = async (name: string, count: number): Promise<Opened> => {
    const opened = await open();
    opened.connection.on('data', (piece: Buffer) => {
      // Each request is a piece of 29 bytes; the first piece also contains the preface.
      for (let from = piece.length % request.length; from < piece.length; from += request.length) order.push(name);
    });
    opened.client.write(Buffer.concat([PREFACE, times(count, request)]));
    return opened;
  };
  await sendRequests('a', 1000);
  await until(() => order.length === 1);
  const b = await sendRequests('b', 2);
  await until(() => b.connection.socket.isPaused());
  t.equal(order.join(''), 'a', 'connections that already wait are served first');
  t.ok(requests.usedBytes > 20 * KIB, 'waiting bytes are reserved');
  order.length = 0;
  step();
  t.equal(order.join(''), 'abab');
  order.length = 0;
  step();
  t.equal(order.join(''), 'aaaa');
  t.notOk(b.connection.socket.isPaused(), 'a connection without waiting bytes reads on');
});

t.test('a flood of control frames is limited per round, so other connections are served in between', async t => {
  const { turns, step } = steppedTurns({ frames: 40, streams: 4 });
  const { open } = await start(t, { turns });
  const flood = await open();
  const pings = piecesOf(flood.connection);
  const ping = frame(PING, Buffer.alloc(8));
  flood.client.write(Buffer.concat([PREFACE, times(1000, ping)]));
  await until(() => lengthOf(pings) === PREFACE.length + 16 * ping.length);
  const quiet = await open();
  const requests = piecesOf(quiet.connection);
  quiet.client.write(Buffer.concat([PREFACE, frame(HEADERS, Buffer.alloc(20))]));
  await until(() => quiet.connection.socket.isPaused());
  step();
  t.equal(lengthOf(requests), PREFACE.length + 29);
  t.equal(lengthOf(pings), PREFACE.length + (16 + 39) * ping.length, 'all connections share the frames of a turn');
});

t.test('a large frame is passed on in pieces of at most 32 KiB', async t => {
  const { turns, step } = steppedTurns({ frames: 40, streams: 4 });
  const { open } = await start(t, { turns });
  const { client, connection } = await open();
  const pieces = piecesOf(connection);
  const sent = Buffer.concat([PREFACE, frame(DATA, Buffer.alloc(300 * KIB, 'd')), frame(PING, Buffer.alloc(8))]);
  client.write(sent);
  await until(() => {
    step();
    return lengthOf(pieces) === sent.length;
  });
  t.ok(Buffer.concat(pieces).equals(sent));
  t.ok(pieces.every(({ length }) => length <= 32 * KIB));
});

t.test('with a full budget, a connection with many waiting bytes is closed and one with few is not', async t => {
  const { turns, step } = steppedTurns({ frames: 100, streams: 2 });
  const requests = new Budget(0);
  const { open } = await start(t, { turns, requests });
  const request = frame(HEADERS, Buffer.alloc(20));
  const small = await open();
  const passed = piecesOf(small.connection);
  small.client.write(Buffer.concat([PREFACE, times(100, request)]));
  await until(() => passed.length > 0);
  const large = await open();
  large.client.resume().write(Buffer.concat([PREFACE, times(1000, request)]));
  await once(large.client, 'close');
  t.ok(large.connection.destroyed);
  t.notOk(small.connection.destroyed);
  await until(() => {
    step();
    return lengthOf(passed) === PREFACE.length + 100 * request.length;
  });
  t.equal(requests.usedBytes, 0);
});

t.test('closing a connection releases its reserved bytes', async t => {
  const { turns, step } = steppedTurns({ frames: 100, streams: 2 });
  const { open, requests } = await start(t, { turns });
  const { client, connection } = await open();
  const pieces = piecesOf(connection);
  client.write(Buffer.concat([PREFACE, times(1000, frame(HEADERS, Buffer.alloc(20)))]));
  await until(() => requests.usedBytes > 0);
  connection.destroy();
  t.equal(requests.usedBytes, 0);
  const passed = pieces.length;
  step();
  t.equal(pieces.length, passed);
});

t.test('a session that closes its connection while reading receives nothing more', async t => {
  const { open, requests } = await start(t);
  const { client, connection } = await open();
  const pieces = piecesOf(connection);
  connection.once('data', () => connection.destroy());
  client.resume().write(Buffer.concat([PREFACE, times(1000, frame(HEADERS))]));
  await once(client, 'close');
  t.equal(pieces.length, 1);
  t.equal(requests.usedBytes, 0);
});

t.test('a paused session receives nothing more, and the socket is paused too', async t => {
  const { open, requests } = await start(t);
  const { client, connection } = await open();
  const pieces = piecesOf(connection);
  client.write(PREFACE);
  await until(() => pieces.length === 1);
  connection.pause();
  const sent = times(2000, frame(DATA, Buffer.alloc(4 * KIB)));
  let isWritten = false;
  client.write(sent, () => {
    isWritten = true;
  });
  await until(() => connection.socket.isPaused());
  t.ok(requests.usedBytes > 0 && requests.usedBytes <= 128 * KIB, `${requests.usedBytes} bytes`);
  t.equal(connection.readableLength, 0);
  t.notOk(isWritten);
  connection.resume();
  await until(() => lengthOf(pieces) === PREFACE.length + sent.length);
  t.equal(requests.usedBytes, 0);
  t.notOk(connection.socket.isPaused());
});

t.test('the end of the socket is passed on after the last frame', async t => {
  const { open } = await start(t, { allowHalfOpen: true });
  for (const requests of [0, 50]) {
    const { client, connection } = await open();
    const pieces = piecesOf(connection);
    client.end(Buffer.concat([PREFACE, times(requests, frame(HEADERS))]));
    await once(connection, 'end');
    t.equal(lengthOf(pieces), PREFACE.length + 9 * requests);
  }
});

t.test('an end, a close and a reset are passed through in both directions', async t => {
  const { open } = await start(t);
  const ended = await open();
  const received = buffer(ended.client);
  ended.connection.end('last');
  t.equal(String(await received), 'last');
  const disconnected = await open();
  disconnected.connection.resume();
  disconnected.client.destroy();
  await once(disconnected.connection, 'close');
  const reset = await open();
  reset.connection.resume();
  reset.client.resetAndDestroy();
  await t.rejects(once(reset.connection, 'close'), { code: 'ECONNRESET' });
  t.ok(reset.connection.destroyed);
  const closed = await open();
  closed.connection.destroy();
  await once(closed.client.resume(), 'close');
  t.ok(closed.client.destroyed);
});

t.test('a write completes only after the client has read enough', async t => {
  const { open } = await start(t);
  const { client, connection } = await open();
  client.pause();
  const bytes = Buffer.alloc(16 * KIB * KIB, 'w');
  let isWritten = false;
  connection.write(bytes, () => {
    isWritten = true;
  });
  connection.write('a');
  connection.write('b');
  await until(() => connection.socket.writableNeedDrain);
  t.notOk(isWritten);
  const received = buffer(client);
  connection.end();
  t.equal((await received).length, bytes.length + 2);
  t.ok(isWritten);
});

t.test('requests and responses are unchanged over a connection whose bytes arrive in small pieces', async t => {
  const { server } = await start(t);
  const random = seeded(7);
  const relay = await startRelay(t, (server.address() as AddressInfo).port, random);
  server.removeAllListeners('connection');
  server.on('connection', socket => {
    const turns = new FrameTurns(shareOf({ frames: 8, streams: 1 }));
    const connection = new Http2Connection(socket, new SharedConnection(), () => turns, new Budget(KIB * KIB));
    const session = performServerHandshake(connection);
    session.on('error', () => {});
    session.on('stream', (stream: ServerHttp2Stream) => {
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    });
  });
  const client = connectHttp2(`http://127.0.0.1:${relay}`);
  client.on('error', () => {});
  t.teardown(() => client.destroy());
  const bodies = Array.from({ length: 10 }, (_, index) => Buffer.alloc(random.below(30 * KIB), index + 65));
  const echoes = bodies.map(body => {
    const stream = client.request({ ':method': 'POST', ':path': '/' });
    stream.end(body);
    return buffer(stream);
  });
  for (const [index, echo] of (await Promise.all(echoes)).entries()) t.ok(echo.equals(bodies[index] as Buffer));
});

/** Starts a relay that splits the client's bytes at random positions. @returns its port. */
async function startRelay(t: Test, port: number, random: Seeded): Promise<number> {
  const relay = createServer({ noDelay: true }, from => {
    const to = connect({ port, host: '127.0.0.1', noDelay: true });
    t.teardown(() => {
      from.destroy();
      to.destroy();
    });
    from.on('error', () => {});
    to.on('error', () => {}).pipe(from);
    void (async () => {
      for await (const chunk of from) {
        for (let offset = 0; offset < chunk.length; ) {
          const next = offset + 1 + random.below(random.pick([20, 3000]));
          to.write(chunk.subarray(offset, next));
          offset = next;
          await turn();
        }
      }
    })().catch(() => {});
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  t.teardown(() => relay.close());
  return (relay.address() as AddressInfo).port;
}
