import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { answerOn, drainable } from '../../src/gateway/drainable.ts';
import { until } from '../fixtures/until.ts';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

async function start(t: Test, handler: (response: ServerResponse) => void) {
  const server: Server = createServer((_request, response) => handler(response));
  const listener = drainable(server, { silentGraceMs: 50, partialGraceMs: 150 });
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
  return { server, listener, accepted, open };
}

const received = async (socket: Socket): Promise<string> => {
  let text = '';
  for await (const chunk of socket) text += chunk;
  return text;
};

t.test('connections without a whole request are let go, what is under way is finished', async t => {
  const answers: ServerResponse[] = [];
  const { listener, accepted, open } = await start(t, response => {
    answers.push(response);
  });
  const silent = await open('');
  const half = await open('GET / HTTP/1.1\r\nHost: x\r\n');
  const asking = await open(GET);
  await until(() => answers.length === 1);
  t.strictSame(
    accepted.map(socket => answerOn(socket) !== undefined),
    [false, false, true],
  );
  const closed = listener.close();
  t.strictSame(await Promise.all([received(silent), received(half)]), ['', '']);
  answers[0]?.setHeader('Connection', 'close').end('done');
  t.match(await received(asking), /^HTTP\/1\.1 200 OK[\s\S]*done/);
  await closed;
});

t.test('the beginning of a next request on a kept-alive connection holds up nothing', async t => {
  const { listener, open, accepted } = await start(t, response => response.end());
  const socket = await open(`${GET}GET /a`);
  await once(socket, 'data');
  await until(() => answerOn(accepted[0] as Socket) === undefined);
  const rest = received(socket);
  await listener.close();
  t.equal(await rest, '');
});

t.test('a request that is on its way when the listener closes is still answered', async t => {
  const { listener, open } = await start(t, response => response.setHeader('Connection', 'close').end('in time'));
  const socket = await open('');
  const closed = listener.close();
  socket.write(GET);
  t.match(await received(socket), /in time/);
  await closed;
});
