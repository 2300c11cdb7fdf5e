import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect as connectHttp2, constants, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import { SharedConnection } from '../../../src/gateway/fair-turns.ts';
import {
  type Http2Listener,
  type Http2ListenerOptions,
  http2Listener,
} from '../../../src/gateway/grpc/http2-listener.ts';
import { Budget } from '../../../src/limits/budget.ts';
import { ConnectionPool } from '../../../src/limits/connection-pool.ts';
import { CONNECTION_BYTES } from '../../../src/limits/constants.ts';
import { roomyLimits } from '../../fixtures/limits.ts';
import { beginCall, rawSession } from '../../fixtures/raw-call.ts';
import { pem } from '../../fixtures/tls-server.ts';
import { until } from '../../fixtures/until.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const frameOf = (type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
const SETTINGS = frameOf(4, 0, 0);

type StreamHandler = (stream: ServerHttp2Stream, connection?: SharedConnection) => unknown;

interface Started {
  readonly listener: Http2Listener;
  readonly port: number;
  readonly address: string;
  readonly streams: ServerHttp2Stream[];
  readonly peers: string[];
}

async function start(
  t: Test,
  handle: StreamHandler = () => {},
  options: Partial<Http2ListenerOptions> = {},
): Promise<Started> {
  const streams: ServerHttp2Stream[] = [];
  const peers: string[] = [];
  const listener = http2Listener(
    ({ stream, peer, connection }) => {
      streams.push(stream);
      connection.hasBeenAllowed = true;
      connection.onChange();
      peers.push(peer);
      handle(stream, connection);
    },
    { ...roomyLimits(), ...options },
  );
  listener.server.listen(0, '127.0.0.1');
  await once(listener.server, 'listening');
  t.teardown(() => listener.destroy());
  const { port } = listener.server.address() as AddressInfo;
  return { listener, port, address: `127.0.0.1:${port}`, streams, peers };
}

type Session = ReturnType<typeof rawSession>;

const answer: StreamHandler = stream => {
  if (!stream.closed) stream.respond({ ':status': 204 }, { endStream: true });
};

async function open(t: Test, port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Resolves when the emitter closes. Unlike `once`, it does not reject on an error. */
function closed(emitter: { once(name: 'close', listener: () => void): unknown }): Promise<void> {
  return new Promise(resolve => emitter.once('close', resolve));
}

t.test('a connection that does not answer a ping before the next one is closed, and others stay open', async t => {
  const { listener, port, address, peers } = await start(t, answer);
  const responsive = rawSession(t, address);
  await once(responsive, 'remoteSettings');
  const silent = await open(t, port);
  const unread = await open(t, port);
  unread.pause();
  const unresponsive = await open(t, port);
  unresponsive.write(PREFACE);
  unresponsive.write(SETTINGS);
  // Connections start in turns of the event loop; once the last has settings, all have started.
  const started = once(unresponsive, 'data');
  const bothClosed = Promise.all([silent, unresponsive].map(socket => closed(socket.resume())));
  const connections = () =>
    new Promise<number>(resolve => listener.server.getConnections((_error, count) => resolve(count)));
  await until(async () => (await connections()) === 4);
  await started;
  const pinged = once(responsive, 'ping');
  await listener.pingSessions();
  await pinged;
  // This call is sent after the answer to the ping.
  await once(beginCall(responsive), 'response');
  listener.pingSessions();
  await bothClosed;
  await until(async () => (await connections()) === 1);
  await once(beginCall(responsive), 'response');
  t.strictSame(peers, ['127.0.0.1', '127.0.0.1']);
});

t.test('a limited number of sessions is pinged in each event loop iteration', async t => {
  const { listener, address } = await start(t, answer);
  const sessions = Array.from({ length: 9 }, () => rawSession(t, address));
  await Promise.all(sessions.map(session => once(beginCall(session), 'response')));
  const pinged = Promise.all(sessions.map(session => once(session, 'ping')));
  let iterations = 0;
  const count = (): void => {
    iterations += 1;
    counter = setImmediate(count);
  };
  let counter = setImmediate(count);
  await listener.pingSessions();
  clearImmediate(counter);
  t.equal(iterations, 2);
  await pinged;
});

t.test('a client that has sent GOAWAY is pinged by SETTINGS, and closed if it does not acknowledge them', async t => {
  const { listener, port, streams } = await start(t, stream => stream.respond({ ':status': 200 }));
  const responsive = await open(t, port);
  const silent = await open(t, port);
  const block = Buffer.concat([Buffer.of(0x83, 0x86, 0x84, 0x01, 1), Buffer.from('x')]);
  const callAndGoaway = [frameOf(1, 4, 1, block), frameOf(4, 1, 0), frameOf(7, 0, 0, Buffer.alloc(8))];
  const pinged: Promise<void>[] = [];
  for (const socket of [responsive, silent]) {
    socket.write(Buffer.concat([Buffer.from(PREFACE), SETTINGS, ...callAndGoaway]));
    const received: Buffer[] = [];
    socket.on('data', (piece: Buffer) => received.push(piece));
    // The listener's initial settings are not empty; those that serve as a ping are.
    pinged.push(until(() => Buffer.concat(received).includes(SETTINGS)));
  }
  await until(() => streams.length === 2 && streams.every(stream => stream.session?.closed));
  const silentClosed = closed(silent);
  listener.pingSessions();
  await Promise.all(pinged);
  responsive.write(frameOf(4, 1, 0));
  // The streams may have arrived in either order; only the responsive client acknowledges.
  await until(() => streams.some(({ session }) => session?.pendingSettingsAck === false));
  listener.pingSessions();
  await silentClosed;
  t.notOk(responsive.destroyed);
  t.equal(streams.filter(stream => stream.destroyed).length, 1);
});

t.test('closing the listener finishes calls in flight and accepts no others', async t => {
  const { listener, port, address, streams } = await start(t);
  const session = rawSession(t, address);
  const stream = beginCall(session);
  await until(() => streams.length === 1);
  const idle = await open(t, port);
  idle.resume();
  const goaway = once(session, 'goaway');
  const finished = listener.close();
  await goaway;
  listener.pingSessions();
  answer(streams[0] as ServerHttp2Stream);
  const [headers] = await once(stream, 'response');
  t.equal(headers[':status'], 204);
  stream.end();
  await once(session, 'close');
  idle.destroy();
  await finished;
  t.equal(streams.length, 1);
});

t.test('a TLS handshake that completes after the listener has closed starts no session', async t => {
  const material = {
    cert: Buffer.from(pem('server.crt')),
    key: Buffer.from(pem('server.key')),
    clientCa: undefined,
  };
  const { listener, port, streams } = await start(t, answer, { tls: { material, onReplaced: () => {} } });
  const plain = await open(t, port);
  await until(
    () => new Promise<boolean>(resolve => listener.server.getConnections((_error, count) => resolve(count === 1))),
  );
  const finished = listener.close();
  const socket = connectTls({ socket: plain, ca: pem('ca.crt'), servername: 'localhost', ALPNProtocols: ['h2'] });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  socket.write(PREFACE);
  socket.write(SETTINGS);
  socket.resume();
  await closed(socket);
  await finished;
  t.equal(streams.length, 0);
});

t.test('a TLS client that does not negotiate HTTP/2 receives nothing', async t => {
  const material = {
    cert: Buffer.from(pem('server.crt')),
    key: Buffer.from(pem('server.key')),
    clientCa: undefined,
  };
  const { port } = await start(t, answer, { tls: { material, onReplaced: () => {} } });
  const socket = connectTls({ port, host: '127.0.0.1', ca: pem('ca.crt'), servername: 'localhost' });
  socket.on('error', () => {});
  let received = 0;
  socket.on('data', piece => {
    received += piece.length;
  });
  await once(socket, 'close');
  t.equal(received, 0);
});

t.test('a peer on a Unix socket has an empty address', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'gatecar-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = join(folder, 'grpc.sock');
  const peers: string[] = [];
  const listener = http2Listener(({ stream, peer }) => {
    peers.push(peer);
    answer(stream);
  }, roomyLimits());
  t.teardown(() => listener.destroy());
  listener.server.listen(path);
  await once(listener.server, 'listening');
  const session = connectHttp2('http://localhost', { createConnection: () => connect(path) });
  t.teardown(() => session.destroy());
  await once(beginCall(session), 'response');
  t.strictSame(peers, ['']);
});

t.test('a TCP peer whose address is no longer available is not treated as a Unix socket peer', async t => {
  const { listener, address, peers } = await start(t, answer);
  listener.server.prependListener('connection', (socket: Socket) => {
    Object.defineProperty(socket, 'remoteAddress', { value: undefined });
  });
  await once(beginCall(rawSession(t, address)), 'response');
  t.strictSame(peers, ['unknown']);
});

t.test('a stream reset with an error leaves its connection open', async t => {
  const { address, streams } = await start(t);
  const session = rawSession(t, address);
  const stream = beginCall(session);
  await until(() => streams.length === 1);
  const [reset] = streams as [ServerHttp2Stream];
  const errors: Error[] = [];
  reset.on('error', error => errors.push(error));
  stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  await closed(reset);
  t.match(errors, [{ code: 'ERR_HTTP2_STREAM_ERROR' }]);
  beginCall(session);
  await until(() => streams.length === 2);
});

t.test('a flood of streams that are reset immediately closes its connection and no other', async t => {
  const { port, address, streams } = await start(t, answer);
  const session = rawSession(t, address);
  await once(beginCall(session), 'response');
  const flood = await open(t, port);
  flood.write(PREFACE);
  flood.write(SETTINGS);
  flood.resume();
  // POST http://x/, with a literal authority that HPACK does not index.
  const block = Buffer.concat([Buffer.of(0x83, 0x86, 0x84, 0x01, 1), Buffer.from('x')]);
  const reset = Buffer.alloc(4);
  reset.writeUInt32BE(constants.NGHTTP2_CANCEL);
  for (let id = 1; !flood.closed && id < 20_000; id += 2) {
    flood.write(Buffer.concat([frameOf(1, 4, id, block), frameOf(3, 0, id, reset)]));
  }
  await closed(flood);
  t.ok(streams.length > 100 && streams.length < 5_000, `${streams.length} streams`);
  await once(beginCall(session), 'response');
});

t.test('a flood of PING or SETTINGS frames whose answers are not read closes its connection', async t => {
  const { port, address } = await start(t, answer);
  const session = rawSession(t, address);
  for (const frame of [frameOf(6, 0, 0, Buffer.alloc(8)), SETTINGS]) {
    const flood = await open(t, port);
    flood.pause();
    flood.write(PREFACE);
    flood.write(SETTINGS);
    const many = Buffer.concat(Array(10_000).fill(frame));
    while (!flood.destroyed) await new Promise<void>(resolve => flood.write(many, () => resolve()));
    await once(beginCall(session), 'response');
  }
});

t.test('a stream whose headers are too large or too many is reset with ENHANCE_YOUR_CALM', async t => {
  const { address, streams } = await start(t, answer);
  const session = rawSession(t, address);
  // Until the client has acknowledged the listener's settings, Node's default limit applies.
  await once(beginCall(session), 'response');
  for (const headers of [
    { big: 'x'.repeat(17 * 1024) },
    Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-${i}`, '1'])),
  ]) {
    const stream = beginCall(session, headers);
    await closed(stream);
    t.equal(stream.rstCode, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
  t.equal(streams.length, 1);
  await once(beginCall(session, { big: 'x'.repeat(12 * 1024) }), 'response');
});

t.test('a connection may send 1,000 PING or SETTINGS frames between two pings, and is closed at one more', async t => {
  for (const frame of [frameOf(6, 0, 0, Buffer.alloc(8)), SETTINGS]) {
    const { listener, port, streams } = await start(t, answer);
    const socket = await open(t, port);
    let received = 0;
    socket.on('data', (piece: Buffer) => {
      received += piece.length;
    });
    socket.write(Buffer.concat([Buffer.from(PREFACE), SETTINGS]));
    await until(() => received > 0);
    // The answer to a frame has the frame's length. The initial SETTINGS frame counts too.
    const flood = async (count: number): Promise<void> => {
      const before = received;
      for (let sent = 0; sent < count && !socket.destroyed; sent += 100) {
        socket.write(Buffer.concat(Array(Math.min(100, count - sent)).fill(frame)));
        await until(() => received >= before + frame.length * Math.min(count, sent + 100) || socket.destroyed);
      }
    };
    await flood(999);
    listener.pingSessions();
    await flood(1000);
    t.notOk(socket.destroyed);
    await flood(1);
    await until(() => socket.destroyed);
    t.equal(streams.length, 0);
  }
});

t.test('frames of a trusted proxy bypass the budget, and those of other peers are limited by it', async t => {
  const requests = new Budget(0);
  const sent = Buffer.concat([
    Buffer.from(PREFACE),
    SETTINGS,
    Buffer.concat(Array(2000).fill(frameOf(2, 0, 1, Buffer.alloc(5)))),
  ]);
  const { port } = await start(t, answer, { requests });
  const untrusted = await open(t, port);
  untrusted.resume().write(sent);
  await closed(untrusted);
  const trusting = await start(t, answer, { requests, isTrusted: peer => peer === '127.0.0.1' });
  const gateway = await open(t, trusting.port);
  let received = Buffer.alloc(0);
  gateway.on('data', (piece: Buffer) => {
    received = Buffer.concat([received, piece]);
  });
  gateway.write(Buffer.concat([sent, frameOf(6, 0, 0, Buffer.from('the last'))]));
  await until(() => received.includes('the last'));
  t.notOk(gateway.destroyed);
});

t.test('a connection with an allowed request has 200 further calls answered', async t => {
  const { address, streams } = await start(t, answer);
  const session = rawSession(t, address);
  await once(beginCall(session), 'response');
  await Promise.all(Array.from({ length: 200 }, () => once(beginCall(session), 'response')));
  t.equal(streams.length, 201);
});

t.test('a reset connection and one that does not send HTTP/2 are closed without effect on others', async t => {
  const { listener, port, address } = await start(t, answer);
  const session = rawSession(t, address);
  await once(beginCall(session), 'response');
  const reset = await open(t, port);
  reset.write(Buffer.concat([Buffer.from(PREFACE), SETTINGS]));
  await once(reset, 'data');
  reset.resetAndDestroy();
  const garbage = await open(t, port);
  garbage.resume().write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await closed(garbage);
  await until(
    () => new Promise<boolean>(resolve => listener.server.getConnections((_error, count) => resolve(count === 1))),
  );
  await once(beginCall(session), 'response');
});

t.test(
  'a full pool closes a connection without a pending review for a new one, and none with a pending review',
  async t => {
    const pool = new ConnectionPool(2 * CONNECTION_BYTES.grpc, { minIdleMs: 0 });
    const connections: SharedConnection[] = [];
    const { address, streams } = await start(
      t,
      (_stream, connection) => connections.push(connection as SharedConnection),
      { pool },
    );
    const [busy, idle] = [rawSession(t, address), rawSession(t, address)];
    const waiting = beginCall(busy);
    await until(() => streams.length === 1);
    (connections[0] as SharedConnection).pending = 1;
    connections[0]?.onChange();
    const done = beginCall(idle);
    await until(() => streams.length === 2);
    answer(streams[1] as ServerHttp2Stream);
    done.end();
    await closed(done.resume());
    await until(() => streams[1]?.closed === true);
    const ended = closed(idle);
    const fresh = rawSession(t, address);
    beginCall(fresh);
    await ended;
    await until(() => streams.length === 3);
    answer(streams[0] as ServerHttp2Stream);
    await once(waiting, 'response');
  },
);

t.test('connections without an allowed request or pending review are closed first, the least active first', async t => {
  const pool = new ConnectionPool(3 * CONNECTION_BYTES.grpc);
  const connections: SharedConnection[] = [];
  const handle: StreamHandler = (_stream, connection = new SharedConnection()) => {
    connection.hasBeenAllowed = false;
    connections.push(connection);
    connection.onChange();
  };
  const { address, streams } = await start(t, handle, { pool });
  const sessions = [0, 1, 2].map(() => rawSession(t, address));
  for (const [index, session] of sessions.entries()) {
    beginCall(session);
    await until(() => streams.length === index + 1);
  }
  const [pending, inactive, active] = sessions as [Session, Session, Session];
  (connections[0] as SharedConnection).pending = 1;
  connections[0]?.onChange();
  beginCall(inactive);
  await until(() => streams.length === 4);
  beginCall(active);
  await until(() => streams.length === 5);
  const ended = closed(inactive);
  beginCall(rawSession(t, address));
  await ended;
  t.notOk(pending.closed || active.closed);
});
