import { once } from 'node:events';
import { Agent, get, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { createDrainer } from '../../src/gateway/http/connection-drain.ts';
import { type HttpServer, httpServer } from '../../src/gateway/http/server.ts';
import { drain } from '../../src/server/drain.ts';
import { roomyLimits } from '../fixtures/limits.ts';
import { until } from '../fixtures/until.ts';

async function start(
  t: Test,
  handler: (response: ServerResponse) => void,
): Promise<{ http: HttpServer; server: Server; url: string }> {
  const http = httpServer((_request, response) => handler(response), roomyLimits());
  const { server } = http;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.closeAllConnections());
  return { http, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

const silent = { warn: () => {} } as never;

t.test('drain finishes requests in flight and then resolves', async t => {
  const request = Promise.withResolvers<ServerResponse>();
  const { http, server, url } = await start(t, request.resolve);
  const answer = once(get(url, { agent: false }), 'response');
  const response = await request.promise;
  const drained = drain({ listeners: [createDrainer(http)], log: silent, delayMs: 0, timeoutMs: 60_000 });
  response.end('done');
  const [incoming] = await answer;
  incoming.resume();
  await drained;
  t.notOk(server.listening);
});

t.test('during the shutdown delay requests are served', async t => {
  const { http, server, url } = await start(t, response => response.end());
  const drained = drain({ listeners: [createDrainer(http)], log: silent, delayMs: 50, timeoutMs: 60_000 });
  t.ok(server.listening);
  const [incoming] = await once(get(url, { agent: false }), 'response');
  t.equal(incoming.statusCode, 200);
  incoming.resume();
  await drained;
});

t.test('drain closes idle connections', async t => {
  const { http, url } = await start(t, response => response.end());
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const [incoming] = await once(get(url, { agent }), 'response');
  incoming.resume();
  await once(incoming, 'close');
  await drain({ listeners: [createDrainer(http)], log: silent, delayMs: 0, timeoutMs: 60_000 });
  t.pass('drain resolved although the client would have kept its connection');
});

t.test('requests that exceed the shutdown timeout are aborted, and this is logged', async t => {
  const request = Promise.withResolvers<ServerResponse>();
  const { http, url } = await start(t, request.resolve);
  const outgoing = get(url, { agent: false });
  const failed = once(outgoing, 'error');
  await request.promise;
  const lines: string[] = [];
  const log = { warn: (line: string) => lines.push(line) } as never;
  await drain({ listeners: [createDrainer(http)], log, delayMs: 0, timeoutMs: 20 });
  t.match((await failed)[0], { code: 'ECONNRESET' });
  t.match(lines, [/^shutdown timeout reached with requests in flight/]);
});

t.test('drain closes a silent connection only after its request could have arrived', async t => {
  const { http, server, url } = await start(t, response => response.end());
  const listener = createDrainer(http);
  let accepted = 0;
  server.on('connection', () => {
    accepted += 1;
  });
  const open = () => connect(Number(new URL(url).port), '127.0.0.1');
  const [late, silentSocket] = [open(), open()];
  await until(() => accepted === 2);
  const drained = drain({ listeners: [listener], log: silent, delayMs: 0, timeoutMs: 60_000 });
  await wait(20);
  late.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const [answer] = await once(late, 'data');
  t.match(String(answer), /^HTTP\/1\.1 200 /);
  silentSocket.resume();
  await once(silentSocket, 'close');
  await drained;
});

t.test('closing silent connections does not abort requests in flight', async t => {
  const request = Promise.withResolvers<ServerResponse>();
  const { http, server, url } = await start(t, request.resolve);
  const listener = createDrainer(http);
  const answer = once(get(url, { agent: false }), 'response');
  const response = await request.promise;
  const silentSocket = connect(Number(new URL(url).port), '127.0.0.1').resume();
  await once(server, 'connection');
  const drained = drain({ listeners: [listener], log: silent, delayMs: 0, timeoutMs: 60_000 });
  await once(silentSocket, 'close');
  response.end('done');
  const [incoming] = await answer;
  t.equal(incoming.statusCode, 200);
  incoming.resume();
  await drained;
});
