import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { connectionOf, type HttpServerOptions, httpServer } from '../../../src/gateway/http/server.ts';
import { Budget } from '../../../src/limits/budget.ts';
import { ConnectionPool } from '../../../src/limits/connection-pool.ts';
import { roomyLimits } from '../../fixtures/limits.ts';
import { until } from '../../fixtures/until.ts';

const KIB = 1024;
/** The size of the pieces in which a body is passed to the parser. */
const BODY_PIECE_BYTES = KIB;

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** Starts a server. Without `answer` the test answers each exchange itself. */
async function start(t: Test, options: Partial<HttpServerOptions> = {}, answer?: (exchange: Exchange) => void) {
  const exchanges: Exchange[] = [];
  const http = httpServer(
    (request, response) => {
      exchanges.push({ request, response });
      answer?.({ request, response });
    },
    { ...roomyLimits(), ...options },
  );
  const { server, connections } = http;
  server.on('clientError', (_error, socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const connection of connections) connection.destroy();
  });
  const open = async (bytes: string | Buffer): Promise<Socket> => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    socket.write(bytes);
    return socket;
  };
  return { exchanges, connections, open, server };
}

const get = (path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
const end = ({ response }: Exchange): unknown => response.writeHead(200, ['Content-Length', '0']).end();

const closed = (socket: Socket): Promise<unknown> =>
  socket.closed ? Promise.resolve() : once(socket.resume(), 'close');

t.test('requests are parsed one at a time, each in its own turn of the event loop', async t => {
  const turns: number[] = [];
  let turn = 0;
  const count = (): void => {
    turn += 1;
    if (turns.length < 20) setImmediate(count);
  };
  const { open } = await start(t, {}, exchange => {
    turns.push(turn);
    end(exchange);
  });
  setImmediate(count);
  (await open(get().repeat(20))).resume();
  await until(() => turns.length === 20);
  t.equal(new Set(turns).size, 20, `each request has its own turn: ${turns}`);
});

t.test('a response is sent at the end of the event-loop iteration', async t => {
  const { exchanges, connections, open } = await start(t);
  const socket = await open(get());
  await until(() => exchanges.length === 1);
  const [connection] = connections;
  end(exchanges[0] as Exchange);
  t.equal(connection?.socket.bytesWritten, 0);
  const [received] = await once(socket, 'data');
  t.match(String(received), /^HTTP\/1\.1 200 /);
});

t.test('a response that has not been sent is sent before destroySoon closes the connection', async t => {
  const { exchanges, connections, open } = await start(t);
  const socket = await open(get());
  await until(() => exchanges.length === 1);
  const received = once(socket, 'data');
  end(exchanges[0] as Exchange);
  for (const connection of connections) connection.destroySoon();
  t.match(String(await received), /^HTTP\/1\.1 200 /);
  await closed(socket);
});

t.test('a response that has not been sent is sent before the connection is destroyed', async t => {
  const { exchanges, connections, open } = await start(t);
  const socket = await open(get());
  await until(() => exchanges.length === 1);
  const received = once(socket, 'data');
  end(exchanges[0] as Exchange);
  for (const connection of connections) connection.destroy();
  t.match(String(await received), /^HTTP\/1\.1 200 /);
  await closed(socket);
});

t.test('a response to a client that has closed its socket is dropped', async t => {
  const { exchanges, connections, open } = await start(t);
  await open(get());
  await until(() => exchanges.length === 1);
  const [connection] = connections;
  end(exchanges[0] as Exchange);
  connection?.socket.destroy();
  await until(() => connection?.closed === true);
  t.equal(connection?.socket.bytesWritten, 0);
});

t.test('a pipelined request is not parsed before the previous one has been answered', async t => {
  const { exchanges, open } = await start(t);
  const socket = await open(`${get('/a')}${get('/b')}`);
  socket.resume();
  await until(() => exchanges.length === 1);
  socket.write(get('/c'));
  for (const path of ['/a', '/b', '/c']) {
    await until(() => exchanges.at(-1)?.request.url === path);
    await new Promise(resolve => setImmediate(resolve));
    t.equal(exchanges.at(-1)?.request.url, path);
    end(exchanges.at(-1) as Exchange);
  }
});

t.test('a pipelined request is not parsed before the client has read the previous response', async t => {
  const body = 'x'.repeat(16 * KIB * KIB);
  const { exchanges, open } = await start(t, {}, ({ response }) => {
    response.writeHead(200, { 'Content-Length': body.length }).end(body);
  });
  const socket = await open(get().repeat(3));
  socket.pause();
  await until(() => exchanges.length === 1 && (exchanges[0]?.response.writableLength ?? 0) > 0);
  await new Promise(resolve => setTimeout(resolve, 0));
  t.equal(exchanges.length, 1);
  socket.resume();
  await until(() => exchanges.length === 3);
});

t.test('requests split into pieces, and several requests in one piece, are all answered', async t => {
  const { exchanges, open } = await start(t, {}, end);
  const socket = await open('\r\n\r\n\r\n');
  socket.resume();
  const bytes = `${get('/1')}${get('/2')}\r\n\r\n${get('/3')}`;
  for (const byte of bytes) {
    socket.write(byte);
    await new Promise(resolve => setImmediate(resolve));
  }
  await until(() => exchanges.length === 3);
  socket.write(`${get('/4')}${get('/5').slice(0, 20)}`);
  await until(() => exchanges.length === 4);
  socket.write(`${get('/5').slice(20)}${get('/6')}`);
  await until(() => exchanges.length === 6);
  t.strictSame(
    exchanges.map(({ request }) => request.url),
    ['/1', '/2', '/3', '/4', '/5', '/6'],
  );
});

t.test('a client that half-closes after its last request gets every response', async t => {
  const { open } = await start(t, {}, end);
  const socket = await open('');
  let received = '';
  socket.on('data', chunk => {
    received += chunk;
  });
  socket.end(get().repeat(5));
  await once(socket, 'close');
  t.equal(received.split('200 OK').length - 1, 5);
});

t.test('the bytes of a partial request head are reserved until it is complete', async t => {
  const requests = new Budget(1024 * KIB);
  const { exchanges, open } = await start(t, { requests }, end);
  const socket = await open(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(1000)}`);
  await until(() => requests.usedBytes > 2000);
  socket.write('\r\n\r\n');
  await until(() => exchanges.length === 1);
  t.equal(requests.usedBytes, 0);
  socket.write(`${get()}GET /half`);
  await until(() => requests.usedBytes > 0);
  socket.destroy();
  await until(() => requests.usedBytes === 0);
});

t.test('if partial heads exceed the budget, the connection that has waited longest is closed', async t => {
  const requests = new Budget(100 * KIB);
  const { connections, open } = await start(t, { requests, maxHeaderBytes: 32 * KIB });
  const partial = `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}`;
  const first = await open(partial);
  await until(() => requests.usedBytes > 40_000);
  const second = await open(partial);
  await until(() => requests.usedBytes > 80_000);
  const third = await open(partial);
  await closed(first);
  await until(() => connections.size === 2);
  t.notOk(second.closed || third.closed);
  t.ok(requests.usedBytes <= 100 * KIB);
});

t.test('a partial head larger than the budget closes its connection', async t => {
  const requests = new Budget(10 * KIB);
  let rejected = 0;
  const onRejected = (): void => {
    rejected += 1;
  };
  const { open } = await start(t, { requests, onRejected });
  await closed(await open(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}`));
  t.equal(requests.usedBytes, 0);
  t.equal(rejected, 1);
});

t.test('a connection that sends endless blank lines is closed', async t => {
  const { open } = await start(t, { maxHeaderBytes: 8 * KIB });
  await closed(await open('\r\n'.repeat(20 * KIB)));
});

t.test('the bytes of pipelined requests are reserved until they are parsed', async t => {
  const requests = new Budget(1024 * KIB);
  const { exchanges, open } = await start(t, { requests });
  (await open(get().repeat(100))).resume();
  await until(() => exchanges.length === 1 && requests.usedBytes >= get().length * 100);
  for (let index = 0; index < 100; index += 1) {
    await until(() => exchanges.length === index + 1);
    end(exchanges[index] as Exchange);
  }
  await until(() => requests.usedBytes === 0);
});

t.test('a body is read only after the response, and requests after it are not read', async t => {
  const { exchanges, open } = await start(t);
  const body = 'y'.repeat(200 * KIB);
  const head = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
  const socket = await open(head + body + get('/hidden').repeat(1000));
  await until(() => exchanges.length === 1);
  const { request, response } = exchanges[0] as Exchange;
  let read = 0;
  request.on('data', chunk => {
    read += chunk.length;
  });
  await new Promise(resolve => setImmediate(resolve));
  t.equal(read, 0);
  response.writeHead(200, { 'Content-Length': '1', Connection: 'close' }).write('1');
  const connection = connectionOf(request);
  t.ok(connection.hasBody);
  connection.readBody();
  connection.readBody();
  await once(request, 'end');
  t.equal(read, body.length);
  response.end();
  await closed(socket);
  t.ok(exchanges.length < 1 + BODY_PIECE_BYTES / get('/hidden').length);
});

t.test('a connection idle for longer than keepAliveMs is closed, and a busy one is not', async t => {
  let now = 0;
  const { exchanges, open } = await start(t, { keepAliveMs: 50, now: () => now });
  const [idle, busy] = [await open(get('/idle')), await open(get('/busy'))];
  await until(() => exchanges.length === 2);
  end(exchanges.find(({ request }) => request.url === '/idle') as Exchange);
  now = 50;
  await closed(idle);
  t.notOk(busy.closed);
  t.equal(
    connectionOf((exchanges.find(({ request }) => request.url === '/busy') as Exchange).request).idleSinceMs,
    Number.POSITIVE_INFINITY,
  );
});

t.test('a full pool closes a connection without a request for a new one', async t => {
  const pool = new ConnectionPool(2 * 16 * KIB);
  const { exchanges, open } = await start(t, { pool, allowedStatus: 200 }, end);
  const served = await open(get());
  await once(served, 'data');
  await until(() => exchanges[0]?.response.closed === true);
  const silent = await open('');
  await until(() => pool.size === 2);
  const fresh = await open(get());
  await closed(silent);
  await until(() => exchanges[1]?.response.closed === true);
  t.notOk(served.closed || fresh.closed);
  await closed(await open(get()));
  t.equal(exchanges.length, 2, 'a connection with an allowed request is not closed for a new one');
});

t.test('a full pool closes connections without an allowed request or pending decision, the oldest first', async t => {
  const pool = new ConnectionPool(3 * 16 * KIB);
  const body = 'POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1';
  const { exchanges, open } = await start(t, { pool, allowedStatus: 200 }, ({ request, response }) => {
    if (request.url === '/pending') return;
    response.writeHead(401, ['Content-Length', '1']);
    if (request.url !== '/body') {
      response.end('x');
      return;
    }
    // The response has been sent; the rest of the body is still to come.
    response.write('x');
    connectionOf(request).readBody();
  });
  const pending = await open(get('/pending'));
  await until(() => exchanges.length === 1);
  const denied = await open(get());
  await once(denied, 'data');
  await until(() => exchanges[1]?.response.closed === true);
  const slow = await open(body);
  await once(slow, 'data');
  const fourth = await open('');
  await closed(denied);
  const fifth = await open('');
  await closed(slow);
  t.notOk(pending.closed || fourth.closed || fifth.closed);
});

t.test('a full pool closes a connection whose client does not read its response', async t => {
  const pool = new ConnectionPool(16 * KIB);
  const { exchanges, open } = await start(t, { pool, allowedStatus: 200 }, ({ response }) => {
    response.writeHead(200, ['Content-Length', String(16 * KIB * KIB)]).end(Buffer.alloc(16 * KIB * KIB));
  });
  const unread = await open(get());
  unread.pause();
  await until(() => exchanges[0]?.response.headersSent === true);
  await open('');
  await once(unread.resume(), 'close');
  t.ok(unread.bytesRead < 16 * KIB * KIB);
});

t.test('a connection that is itself closed to free memory leaves nothing reserved', async t => {
  const requests = new Budget(100 * KIB);
  const { open, connections } = await start(t, { requests });
  const part = `GET / HTTP/1.1\r\nX-Padding: ${'a'.repeat(30 * KIB)}`;
  const first = await open(part);
  await until(() => requests.usedBytes > 60 * KIB);
  const second = await open(`GET / HTTP/1.1\r\nX-Padding: ${'a'.repeat(10 * KIB)}`);
  await until(() => connections.size === 2 && requests.usedBytes > 80 * KIB);
  first.write('a'.repeat(25 * KIB));
  await closed(first);
  second.destroy();
  await until(() => connections.size === 0);
  t.equal(requests.usedBytes, 0);
});

t.test('bytes that arrive while a request is answered keep their order, even if the socket was resumed', async t => {
  const { exchanges, open } = await start(t);
  const socket = await open(`${get('/a')}${get('/b')}`);
  socket.resume();
  await until(() => exchanges.length === 1);
  const connection = connectionOf((exchanges[0] as Exchange).request);
  connection.socket.resume();
  const before = connection.socket.bytesRead;
  socket.write(get('/c'));
  await until(() => connection.socket.bytesRead > before);
  for (const path of ['/a', '/b', '/c']) {
    await until(() => exchanges.at(-1)?.request.url === path);
    end(exchanges.at(-1) as Exchange);
  }
  t.equal(exchanges.length, 3);
});

t.test('a connection that is closed while a request is read reads nothing more', async t => {
  const requests = new Budget(1024 * KIB);
  const { exchanges, open } = await start(t, { requests }, ({ request }) => connectionOf(request).destroy());
  await closed(await open(get().repeat(10)));
  t.equal(exchanges.length, 1);
  t.equal(requests.usedBytes, 0);
});
