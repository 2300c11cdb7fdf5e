import { once } from 'node:events';
import { createServer, type IncomingMessage, METHODS, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { renderHead, wholeHead } from '../../src/gateway/whole-head.ts';
import { converse, head } from '../fixtures/conversation.ts';

const KEEP_ALIVE_MS = 61 * 60 * 1000;
const HEADERS = ['Content-Length', '0', 'Cache-Control', 'no-store', 'X-Auth-Request-User', 'a%20b', 'X-Empty', ''];
const HEAD = renderHead(200, HEADERS);

const BODY = '{"error":"Größe"}';
const REFUSAL = ['Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(BODY))];

type Write = (request: IncomingMessage, response: ServerResponse) => void;

const byNode: Write = (_request, response) => {
  response.writeHead(200, HEADERS);
  response.end();
};

async function serve(t: Test, write: Write): Promise<string> {
  const server = createServer(write).on('checkExpectation', write);
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** All bytes that come back for these, dates aside. */
async function exchange(url: string, requests: readonly string[]): Promise<string> {
  const conversation = await converse(url);
  conversation.send(requests.join(''));
  await conversation.answers(requests.length);
  conversation.destroy();
  return conversation.received().replace(/^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r$/gm, 'Date: now\r');
}

t.test('the bytes are those that Node itself would send, for any method and for requests sent ahead', async t => {
  const whole = wholeHead(KEEP_ALIVE_MS);
  let suited = 0;
  const ours = await serve(t, (request, response) => {
    if (whole.suits(request, response)) suited += 1;
    whole.write(response, HEAD, '');
  });
  const theirs = await serve(t, byNode);
  const methods = METHODS.filter(method => method !== 'CONNECT');
  for (const method of methods) {
    const requests = [head(`${method} /auth HTTP/1.1`)];
    const received = await exchange(ours, requests);
    t.equal(received, await exchange(theirs, requests), method);
    t.match(received, /^Date: now\r\nConnection: keep-alive\r\nKeep-Alive: timeout=3660\r\n\r\n$/m);
  }
  const three = [1, 2, 3].map(at => head(`GET /auth/${at} HTTP/1.1`));
  t.equal(await exchange(ours, three), await exchange(theirs, three));
  t.equal(suited, methods.length + 3);
});

t.test('so are those of an answer with a body, which HEAD does not get', async t => {
  const whole = wholeHead(KEEP_ALIVE_MS);
  const ours = await serve(t, (_request, response) => whole.write(response, renderHead(401, REFUSAL), BODY));
  const theirs = await serve(t, (_request, response) => {
    response.writeHead(401, REFUSAL);
    response.end(BODY);
  });
  for (const method of METHODS.filter(method => !['CONNECT', 'HEAD'].includes(method))) {
    const requests = [1, 2].map(at => head(`${method} /auth/${at} HTTP/1.1`));
    t.equal(await exchange(ours, requests), await exchange(theirs, requests), method);
  }
  t.ok((await exchange(ours, [head('GET /auth HTTP/1.1')])).endsWith(Buffer.from(BODY).toString('latin1')));
  const received: string[] = [];
  for (const url of [ours, theirs]) {
    const conversation = await converse(url);
    conversation.send(head('HEAD /auth HTTP/1.1'));
    await once(conversation.socket, 'data');
    conversation.end();
    await conversation.closed;
    received.push(conversation.received().replace(/^Date: .*$/m, 'Date: now'));
  }
  t.equal(received[0], received[1]);
  t.match(received[0], /^HTTP\/1\.1 401 [\s\S]*Content-Length: \d+\r\n[\s\S]*\r\n\r\n$/);
  t.notMatch(received[0], /error/);
});

t.test('an answer has ended in every sense, and the connection goes on', async t => {
  const whole = wholeHead(KEEP_ALIVE_MS);
  const finished: boolean[] = [];
  const url = await serve(t, (_request, response) => {
    response.once('finish', () => finished.push(response.writableFinished));
    whole.write(response, HEAD, '');
    t.equal(response.headersSent, true);
    t.equal(response.writableEnded, true);
  });
  const conversation = await converse(url);
  for (let turn = 1; turn <= 3; turn += 1) {
    conversation.send(head('GET /auth HTTP/1.1'));
    t.equal((await conversation.answers(turn)).length, turn);
  }
  conversation.destroy();
  t.strictSame(finished, [true, true, true]);
});

t.test('a connection that ends, or an older protocol, is for Node’s own bookkeeping', async t => {
  const whole = wholeHead(KEEP_ALIVE_MS);
  const suits: boolean[] = [];
  const url = await serve(t, (request, response) => {
    suits.push(whole.suits(request, response));
    byNode(request, response);
  });
  for (const request of [
    head('GET /auth HTTP/1.1', 'Connection: close'),
    head('GET /auth HTTP/1.0', 'Connection: keep-alive'),
    head('GET /auth HTTP/1.0'),
    head('GET /auth HTTP/1.1', 'Expect: 200-ok'),
    head('GET /auth HTTP/1.1'),
  ]) {
    await exchange(url, [request]);
  }
  t.strictSame(suits, [false, false, false, false, true]);
});

t.test('the date is that of the second', async t => {
  let now = Date.parse('2026-01-02T03:04:05.000Z');
  const whole = wholeHead(KEEP_ALIVE_MS, () => now);
  const url = await serve(t, (_request, response) => whole.write(response, HEAD, ''));
  const conversation = await converse(url);
  const dates: (string | undefined)[] = [];
  for (const [turn, passed] of [0, 999, 1].entries()) {
    now += passed;
    conversation.send(head('GET /auth HTTP/1.1'));
    dates.push((await conversation.answers(turn + 1)).at(-1)?.headers.get('date'));
  }
  conversation.destroy();
  t.strictSame(dates, [
    'Fri, 02 Jan 2026 03:04:05 GMT',
    'Fri, 02 Jan 2026 03:04:05 GMT',
    'Fri, 02 Jan 2026 03:04:06 GMT',
  ]);
});
