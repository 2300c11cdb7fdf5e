import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import { createDrainer } from '../../../src/gateway/http/connection-drain.ts';
import { httpServer } from '../../../src/gateway/http/server.ts';
import type { ListenerTls } from '../../../src/tls/listener-options.ts';
import { roomyLimits } from '../../fixtures/limits.ts';
import { pem } from '../../fixtures/tls-server.ts';
import { until } from '../../fixtures/until.ts';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

async function start(t: Test, handler: (response: ServerResponse) => void, tls = false) {
  const material = { cert: pem('server.crt'), key: pem('server.key'), clientCa: undefined } as never;
  const listenerTls: ListenerTls | undefined = tls ? { material, onReplaced: () => {} } : undefined;
  const http = httpServer((_request, response) => handler(response), { ...roomyLimits(), tls: listenerTls });
  const { server, connections } = http;
  const listener = createDrainer(http, { silentGraceMs: 50, partialGraceMs: 150 });
  const accepted: Socket[] = [];
  server.on('connection', socket => accepted.push(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => listener.destroy());
  const open = async (bytes: string): Promise<Socket> => {
    const before = accepted.length;
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    await until(() => accepted.length > before);
    socket.write(bytes);
    return socket;
  };
  return { server, listener, accepted, connections, open };
}

const received = async (socket: Socket): Promise<string> => {
  let text = '';
  for await (const chunk of socket) text += chunk;
  return text;
};

t.test('draining closes connections without a complete request and finishes requests in flight', async t => {
  const answers: ServerResponse[] = [];
  const { listener, connections, open } = await start(t, response => {
    answers.push(response);
  });
  const silent = await open('');
  const partial = await open('GET / HTTP/1.1\r\nHost: x\r\n');
  const pending = await open(GET);
  await until(() => answers.length === 1);
  t.strictSame(
    [...connections].map(({ pendingResponse }) => pendingResponse !== undefined),
    [false, false, true],
  );
  const closed = listener.close();
  t.strictSame(await Promise.all([received(silent), received(partial)]), ['', '']);
  answers[0]?.setHeader('Connection', 'close').end('done');
  t.match(await received(pending), /^HTTP\/1\.1 200 OK[\s\S]*done/);
  await closed;
});

t.test('draining does not wait for a partial request on a kept-alive connection', async t => {
  const { listener, open, connections } = await start(t, response => response.end());
  const socket = await open(`${GET}GET /a`);
  await once(socket, 'data');
  await until(() => [...connections][0]?.pendingResponse === undefined);
  const rest = received(socket);
  await listener.close();
  t.equal(await rest, '');
});

t.test('a request that arrives while the listener closes is still answered', async t => {
  const { listener, open } = await start(t, response => response.setHeader('Connection', 'close').end('in time'));
  const socket = await open('');
  const closed = listener.close();
  socket.write(GET);
  t.match(await received(socket), /in time/);
  await closed;
});

t.test('draining over TLS closes connections before, during and after the handshake alike', async t => {
  const answers: ServerResponse[] = [];
  const { server, listener, open } = await start(t, response => answers.push(response), true);
  const secure = async (bytes: string) => {
    const accepted = once(server, 'secureConnection');
    const { port } = server.address() as AddressInfo;
    const socket = connectTls({ port, host: '127.0.0.1', ca: pem('ca.crt') });
    await accepted;
    if (!socket.authorized) await once(socket, 'secureConnect');
    socket.write(bytes);
    return socket;
  };
  const handshaking = await open('\x16\x03\x01');
  const silent = await secure('');
  const partial = await secure('GET / HTTP/1.1\r\nHost: x\r\n');
  const pending = await secure(GET);
  await until(() => answers.length === 1);
  const closed = listener.close();
  t.strictSame(await Promise.all([received(handshaking), received(silent), received(partial)]), ['', '', '']);
  answers[0]?.setHeader('Connection', 'close').end('done');
  t.match(await received(pending), /^HTTP\/1\.1 200 OK[\s\S]*done/);
  await closed;
});

t.test('destroying the listener ends a drain immediately, including a TLS handshake in progress', async t => {
  const { server, listener, open } = await start(t, () => {}, true);
  const handshaking = await open('\x16\x03\x01');
  const closed = listener.close();
  const ended = new Promise(resolve => handshaking.on('error', () => {}).once('close', resolve));
  listener.destroy();
  await ended;
  await closed;
  t.notOk(server.listening);
});

t.test('a response that waits for the end of the iteration is sent before the drain closes its connection', async t => {
  let closing: Promise<void> | undefined;
  const http = await start(t, response => {
    response.end('done');
    closing = http.listener.close();
    t.strictSame(
      [...http.connections].map(({ socket }) => socket.writableEnded),
      [true],
      'the connection is closed at once',
    );
  });
  const socket = await http.open(GET);
  t.match(await received(socket), /^HTTP\/1\.1 200 OK[\s\S]*done$/);
  await closing;
});
