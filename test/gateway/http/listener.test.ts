import { once } from 'node:events';
import { METHODS } from 'node:http';
import { request } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import process from 'node:process';
import t, { type Test } from 'tap';
import { type Authorize, createAuthorizer } from '../../../src/authorize.ts';
import { revealToken } from '../../../src/credential/token.ts';
import type { Decision } from '../../../src/decision/decision.ts';
import { createResponseRenderer } from '../../../src/gateway/auth-response.ts';
import type { DecisionEvent } from '../../../src/gateway/decision-event.ts';
import { trustedProxies } from '../../../src/gateway/forwarded-headers.ts';
import { createHttpListener, type HttpListenerOptions } from '../../../src/gateway/http/listener.ts';
import { authenticatedAs } from '../../fixtures/authenticated-result.ts';
import { fakeClock } from '../../fixtures/clock.ts';
import { type Conversation, converse, head, statuses } from '../../fixtures/conversation.ts';
import { roomyLimits } from '../../fixtures/limits.ts';
import { RENDERER_OPTIONS } from '../../fixtures/renderer-options.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { pem } from '../../fixtures/tls-server.ts';
import { until } from '../../fixtures/until.ts';

const AUTHENTICATED = authenticatedAs();
const VALID = 'Authorization: Bearer good';
const INTERNAL = '{"error":"TokenReview API call failed: internal error"}';

/** Authenticates only the token `good`. */
const authorize: Authorize = createAuthorizer(
  {
    authenticate: token =>
      revealToken(token) === 'good'
        ? AUTHENTICATED
        : { kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' },
  },
  { allowedNamespaces: undefined, allowedServiceAccounts: undefined },
);

const render = createResponseRenderer(RENDERER_OPTIONS);

async function start(t: Test, options: Partial<HttpListenerOptions> = {}) {
  const decided: DecisionEvent[] = [];
  const faults: unknown[] = [];
  const sockets = new Set<Socket>();
  const { app: gateway } = createHttpListener({
    ...roomyLimits(),
    authorize,
    answer: render,
    trusted: trustedProxies([]),
    clientIpHeader: undefined,
    onDecision: event => decided.push(event),
    onFault: error => faults.push(error),
    ...options,
  });
  const { server } = gateway;
  server.on('connection', socket => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await gateway.ready();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const open = async (): Promise<Conversation> => {
    const conversation = await converse(url);
    t.teardown(() => conversation.destroy());
    return conversation;
  };
  /** Sends bytes on a new connection. @returns the first response. */
  const answer = async (bytes: string) => {
    const conversation = await open();
    conversation.send(bytes);
    const [first] = await conversation.answers(1);
    if (first === undefined) throw new Error(`closed without an answer: ${conversation.received()}`);
    return first;
  };
  return { url, server, decided, faults, sockets, open, answer };
}

t.test('an HTTP allow is a 200 with every identity header once and no header that describes a body', async t => {
  const { open } = await start(t);
  const conversation = await open();
  conversation.send(head('GET /auth HTTP/1.1', VALID));
  await conversation.answers(1);
  const [statusLine, ...lines] = conversation
    .received()
    .replace(/\r\n\r\n$/, '')
    .split('\r\n');
  t.equal(statusLine, 'HTTP/1.1 200 OK');
  const names = lines.map(line => line.split(':', 1)[0]);
  t.strictSame(names.slice(0, 3), ['Content-Length', 'Cache-Control', 'X-Auth-Request-User']);
  t.equal(new Set(names).size, names.length, 'no header is repeated');
  t.equal(names.filter(name => name?.startsWith('X-Auth-Request-')).length, 12);
  t.ok(lines.includes('Content-Length: 0'));
  t.ok(lines.includes('X-Auth-Request-User: system:serviceaccount:default:my-app'));
  t.notOk(names.some(name => /content-type|transfer-encoding|vary|etag|^server$/i.test(name ?? '')));
});

t.test('every auth request is served by the Fastify route /auth, and no other request is', async t => {
  const { app } = createHttpListener({
    ...roomyLimits(),
    authorize,
    answer: render,
    trusted: trustedProxies([]),
    clientIpHeader: undefined,
  });
  const routes: (string | undefined)[] = [];
  app.addHook('onRequest', async ({ routeOptions }) => {
    routes.push(routeOptions.url);
  });
  await app.ready();
  for (const method of METHODS) t.ok(app.hasRoute({ method, url: '/auth' }), method);
  app.server.listen(0, '127.0.0.1');
  await once(app.server, 'listening');
  t.teardown(() => app.server.close());
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  const statusOf = async (path: string) => (await sendRequest(url, { path, token: 'good' })).status;
  t.equal(await statusOf('/auth'), 200);
  t.equal(await statusOf('/auth/x?y'), 200);
  t.equal(await statusOf('/authx'), 404);
  t.strictSame(routes, ['/auth', '/auth', undefined]);
});

t.test('an HTTP denial is JSON with a Content-Length and a challenge', async t => {
  const { url } = await start(t);
  const { status, headers, body } = await sendRequest(url, { token: 'bad' });
  t.equal(status, 401);
  t.equal(body, '{"error":"Token validation failed: invalid bearer token"}');
  t.match(headers, {
    'content-type': 'application/json',
    'content-length': String(body.length),
    'cache-control': 'no-store',
    'www-authenticate': 'Bearer realm="gatecar", error="invalid_token"',
    'x-gatecar-reason': 'token_rejected',
  });
});

t.test('the credential decides for every HTTP method', async t => {
  const { answer, decided } = await start(t);
  const methods = METHODS.filter(method => method !== 'CONNECT' && method !== 'HEAD');
  t.ok(methods.includes('PROPFIND') && methods.includes('PURGE') && methods.includes('QUERY'));
  for (const method of methods) {
    t.equal((await answer(head(`${method} /auth HTTP/1.1`, VALID))).status, 200, method);
    t.equal((await answer(head(`${method} /auth HTTP/1.1`))).status, 401, method);
  }
  t.equal(decided.length, 2 * methods.length);
});

t.test('CONNECT opens no tunnel and is not authorized', async t => {
  const { open, decided } = await start(t);
  const conversation = await open();
  conversation.send(head('CONNECT /auth HTTP/1.1', VALID));
  t.strictSame(await conversation.closed, []);
  t.equal(decided.length, 0);
});

t.test('the path and query after /auth do not change the decision', async t => {
  const { answer } = await start(t);
  // biome-ignore format: a list of targets
  const targets = [
    '/auth', '/auth/', '/auth/x', '/auth//x', '/auth/%zz', '/auth/..%2f', '/auth/../x', '/auth/%00', '/auth/\\x',
    '/auth?', '/auth?a=1&a=2', '/auth?%zz', '/auth/?x', '/auth//', '/auth/;', '/auth/%2e%2e/metrics', '/auth/*', '/auth*',
    `/auth?${'q'.repeat(50 * 1024)}`,
    `/auth/${'p'.repeat(50 * 1024)}`,
    'http://gatecar/auth', 'HTTP://gatecar:9080/auth/x', 'https://user@gatecar/auth?x',
  ];
  for (const target of targets) {
    t.equal((await answer(head(`GET ${target} HTTP/1.1`, VALID))).status, 200, target.slice(0, 40));
    t.equal((await answer(head(`GET ${target} HTTP/1.1`))).status, 401, target.slice(0, 40));
  }
});

t.test('any other target is a 404, whatever the credential, is not authorized, and is reported', async t => {
  const reported: string[] = [];
  const { answer, decided } = await start(t, { onUnknownPath: target => reported.push(target) });
  // biome-ignore format: a list of targets
  const targets = [
    '/', '/authx', '/aut', '/AUTH', '/auth%2f', '/auth.', '/x/auth', '//auth', '/./auth', '/%61uth', '/auth;x',
    '/metrics', '/livez', '/readyz', '/%zz', 'http://gatecar/', 'http://gatecar', 'http://auth/', 'ftp://gatecar/auth',
  ];
  for (const target of targets) {
    const { status, headers, body } = await answer(head(`GET ${target} HTTP/1.1`, VALID));
    t.equal(status, 404, target);
    t.equal(body, '{"error":"Not found: gateways must call /auth"}');
    t.equal(headers.get('connection'), 'keep-alive');
  }
  t.equal((await answer(head('OPTIONS * HTTP/1.1', VALID))).status, 404);
  for (const method of ['POST', 'PURGE', 'PUT']) t.equal((await answer(head(`${method} / HTTP/1.1`))).status, 404);
  t.strictSame(reported.slice(0, targets.length), targets);
  t.equal(decided.length, 0);
});

t.test('conditional, content negotiation, upgrade and Expect headers do not change the response', async t => {
  const { open } = await start(t);
  // biome-ignore format: a list of headers
  const lines = [
    'Expect: 200-ok', 'Expect:', 'Expect: x, y',
    'Content-Type: application/json', 'Content-Type: text/xml', 'Content-Type: nonsense', 'Content-Type:',
    'If-None-Match: *', 'If-Match: "x"', 'If-Modified-Since: Wed, 21 Oct 2037 07:28:00 GMT', 'Range: bytes=0-0',
    'Accept: image/png', 'Accept-Encoding: gzip', 'Accept-Version: 2', 'X-HTTP-Method-Override: POST',
    'Connection: Upgrade\r\nUpgrade: websocket', 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c',
    'Origin: https://evil.example', 'User-Agent: kube-probe/1.36', 'Content-Length: 0', 'Max-Forwards: 0',
  ];
  const responseTo = async (credential: string, line: string) => {
    const conversation = await open();
    conversation.send(head('GET /auth HTTP/1.1', credential, line));
    await conversation.answers(1);
    return conversation.received().replace(/^Date: .*\r\n/m, '');
  };
  for (const credential of [VALID, 'Authorization: Bearer bad', 'X-Nothing: here']) {
    const plain = await responseTo(credential, 'X-Nothing: else');
    for (const line of lines) t.equal(await responseTo(credential, line), plain, line);
    // Node closes a connection on which it has not sent the expected 100 response.
    const closing = plain.replace(/Connection: keep-alive\r\nKeep-Alive: .*\r\n/, 'Connection: close\r\n');
    t.equal(await responseTo(credential, 'Expect: 100-continue'), closing);
  }
});

t.test('the response to HEAD is the one to GET without its body', async t => {
  const { open } = await start(t);
  for (const line of [VALID, 'Authorization: Bearer bad', 'Authorization:', 'Authorization: Basic eDp5']) {
    const received: string[] = [];
    for (const method of ['GET', 'HEAD']) {
      const conversation = await open();
      conversation.send(head(`${method} /auth HTTP/1.1`, line, 'Connection: close'));
      await conversation.closed;
      received.push(conversation.received().replace(/^Date: .*\r\n/m, ''));
    }
    const [get = '', headed] = received;
    t.equal(headed, get.slice(0, get.indexOf('\r\n\r\n') + 4));
  }
});

t.test('a request with a body is answered without waiting for the body', async t => {
  const declared = ['Content-Length: 20', 'Content-Length: 00020', 'Transfer-Encoding: chunked'];

  t.test('a request whose body does not arrive is answered and its connection closed after a delay', async t => {
    const { open, decided } = await start(t, { lingerMs: 50 });
    for (const line of declared) {
      for (const [target, credential, status] of [
        ['/auth', VALID, 200],
        ['/auth', 'X-None: x', 401],
        ['/elsewhere', VALID, 404],
      ] as const) {
        const conversation = await open();
        conversation.send(head(`POST ${target} HTTP/1.1`, credential, line));
        const [answer] = await conversation.closed;
        t.match(answer, { status }, `${line}, ${target}`);
        t.equal(answer?.headers.get('connection'), 'close');
      }
    }
    t.equal(decided.length, 6);
  });

  t.test('a body that arrives whole is read to its end, and the connection is closed immediately', async t => {
    const { open } = await start(t, { lingerMs: 600_000 });
    const bodies = [
      'Content-Length: 20\r\n\r\n01234567890123456789',
      'Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n',
    ];
    for (const body of bodies) {
      for (const credential of [VALID, 'X-None: x']) {
        const conversation = await open();
        conversation.send(`POST /auth HTTP/1.1\r\nHost: x\r\n${credential}\r\n${body}`);
        t.equal((await conversation.closed).length, 1);
      }
    }
  });

  t.test('a connection is not reset while a body arrives slowly', async t => {
    const { open, sockets } = await start(t, { lingerMs: 600_000 });
    const conversation = await open();
    const request = head('POST /auth HTTP/1.1', VALID, 'Content-Length: 20');
    conversation.send(request);
    await conversation.answers(1);
    const [socket] = sockets;
    conversation.send('0123456789');
    await until(() => socket?.bytesRead === request.length + 10 || sockets.size === 0);
    t.equal(sockets.size, 1, 'the connection is still open');
    conversation.send('0123456789');
    t.strictSame(statuses(await conversation.closed), [200]);
  });

  t.test('a HEAD request whose body does not arrive is answered, without a response body', async t => {
    const { open } = await start(t, { lingerMs: 600_000 });
    for (const [credential, status] of [
      [VALID, 200],
      ['X-None: x', 401],
    ]) {
      const conversation = await open();
      conversation.send(head('HEAD /auth HTTP/1.1', `${credential}`, 'Content-Length: 4'));
      await until(() => conversation.received().endsWith('\r\n\r\n'));
      t.match(conversation.received(), new RegExp(`^HTTP/1\\.1 ${status} .*\r\nConnection: close\r\n`, 's'));
      const received = conversation.received();
      conversation.send('body');
      await conversation.closed;
      t.equal(conversation.received(), received);
    }
  });

  t.test('a body of more than 32 MiB is not read to its end', async t => {
    const { open } = await start(t, { lingerMs: 600_000 });
    const conversation = await open();
    const size = 33 * 1024 * 1024;
    conversation.send(`${head('POST /auth HTTP/1.1', VALID, `Content-Length: ${size + 1}`)}${'x'.repeat(size)}`);
    t.strictSame(statuses(await conversation.closed), [200]);
  });

  t.test('a client that disconnects during its body leaves no connection and no timer', async t => {
    const { open, sockets, faults } = await start(t, { lingerMs: 600_000 });
    const timers = () => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length;
    const before = timers();
    for (const disconnect of ['end', 'destroy', 'reset'] as const) {
      const conversation = await open();
      conversation.send(`${head('POST /auth HTTP/1.1', VALID, 'Content-Length: 20')}half`);
      await conversation.answers(1);
      if (disconnect === 'reset') conversation.socket.resetAndDestroy();
      else conversation[disconnect]();
      await until(() => sockets.size === 0);
      t.equal(timers(), before, disconnect);
    }
    t.strictSame(faults, []);
  });

  t.test('a Content-Length of 0 declares no body, and the connection is kept', async t => {
    const { open } = await start(t);
    for (const line of ['Content-Length: 0', 'Content-Length: 000']) {
      const conversation = await open();
      conversation.send(head('POST /auth HTTP/1.1', VALID, line));
      await conversation.answers(1);
      conversation.send(head('POST /auth HTTP/1.1', line));
      t.strictSame(statuses(await conversation.answers(2)), [200, 401]);
    }
  });

  t.test('a request with two Host lines gets a 400 without a decision, and the connection is closed', async t => {
    const { open, decided } = await start(t);
    const conversation = await open();
    conversation.send(head('GET /auth HTTP/1.1', 'hOST: other', VALID));
    t.strictSame(statuses(await conversation.closed), [400]);
    t.equal(decided.length, 0);
  });

  t.test('a missing body cannot smuggle a request inside a header value', async t => {
    // nginx may keep the connection alive and send the client's Content-Length. A server would then
    // read the next request as the body, up to a request line that an attacker hid in a header.
    const { open, decided } = await start(t, { lingerMs: 50 });
    const first = head('POST /auth HTTP/1.1', 'Content-Length: LENGTH');
    const bodyBytes = `GET /auth HTTP/1.1\r\nHost: gatecar\r\nX-Smuggled: `;
    const rest = `GET /auth HTTP/1.1\r\nHost: gatecar\r\n${VALID}\r\n\r\n`;
    for (const line of ['Content-Length', 'content-length']) {
      const conversation = await open();
      conversation.send(first.replace('Content-Length: LENGTH', `${line}: ${bodyBytes.length}`));
      await conversation.answers(1);
      conversation.send(bodyBytes + rest);
      const answers = await conversation.closed;
      t.strictSame(statuses(answers), [401], 'only the first request is answered');
    }
    t.ok(decided.length >= 2);
  });
});

t.test('malformed and oversized HTTP requests are rejected', async t => {
  t.test('invalid HTTP gets a 400 and a closed connection', async t => {
    const { open, decided } = await start(t);
    const garbage = [
      'hello\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      head('GET /auth HTTP/1.1', 'Content-Length: 1', 'Transfer-Encoding: chunked'),
      head('GET /auth HTTP/1.1', 'Content-Length: 1', 'Content-Length: 2'),
      head('GET /auth HTTP/1.1', 'Name without colon'),
      head('GET /auth HTTP/1.1', 'X: a\0b'),
      `GET /auth HTTP/1.1\r\n${VALID}\r\n\r\n`,
    ];
    for (const bytes of garbage) {
      const conversation = await open();
      conversation.send(bytes);
      const [answer, ...more] = await conversation.closed;
      t.equal(answer?.status, 400, JSON.stringify(bytes).slice(0, 50));
      t.equal(answer?.headers.get('connection'), 'close');
      t.strictSame(more, []);
    }
    t.equal(decided.length, 0);
  });

  t.test('after invalid HTTP the connection is destroyed even if the client never closes its side', async t => {
    const { url, sockets } = await start(t, { requestTimeoutMs: 60_000 });
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    t.teardown(() => socket.destroy());
    socket.resume().write('hello\r\n\r\n');
    await once(socket, 'end');
    await until(() => sockets.size === 0);
    t.equal(socket.writable, true, 'the client has not closed its side');
  });

  t.test('a connection reset in the middle of a request head is closed without a fault', async t => {
    const { open, sockets, faults } = await start(t);
    for (let round = 0; round < 3; round += 1) {
      const conversation = await open();
      conversation.send('GET /auth HT');
      await until(() => [...sockets].some(socket => socket.bytesRead > 0));
      conversation.socket.resetAndDestroy();
      await until(() => sockets.size === 0);
    }
    t.strictSame(faults, []);
  });

  t.test('60 KiB of headers are accepted, and 100 KB get a 431', async t => {
    const { answer, open } = await start(t);
    t.equal((await answer(head('GET /auth HTTP/1.1', VALID, `X-Long: ${'x'.repeat(60 * 1024)}`))).status, 200);
    const conversation = await open();
    conversation.send(head('GET /auth HTTP/1.1', VALID, `X-Long: ${'x'.repeat(100_000)}`));
    const [response] = await conversation.closed;
    t.equal(response?.status, 431);
    t.equal(response?.headers.get('connection'), 'close');
  });

  t.test('no header is dropped, even of 5,000', async t => {
    const { answer } = await start(t, { lingerMs: 50 });
    const many = Array.from({ length: 5000 }, () => 'a: b');
    t.equal((await answer(head('GET /auth HTTP/1.1', VALID, ...many))).status, 200);
    t.equal((await answer(head('GET /auth HTTP/1.1', VALID, ...many, VALID))).status, 401);
    const body = await answer(head('POST /auth HTTP/1.1', VALID, ...many, 'Content-Length: 9'));
    t.equal(body.headers.get('connection'), 'close');
  });
});

t.test('an unfinished request head gets a 400 in time, and an idle connection is kept', async t => {
  const { open } = await start(t, { requestTimeoutMs: 50, timeoutCheckMs: 10 });
  const idle = await open();
  idle.send(head('GET /auth HTTP/1.1', VALID));
  await idle.answers(1);
  const slow = await open();
  slow.send('GET /auth HTTP/1.1\r\nHost: x\r\n');
  t.strictSame(statuses(await slow.closed), [400]);
  idle.send(head('GET /auth HTTP/1.1'));
  t.strictSame(statuses(await idle.answers(2)), [200, 401]);
});

t.test('the HTTP server keeps idle connections for 61 minutes, longer than gateways do', async t => {
  const { server } = await start(t);
  t.equal(server.keepAliveTimeout, 61 * 60 * 1000);
  t.equal(server.timeout, 0);
  t.equal(server.maxRequestsPerSocket, 0);
  t.equal(server.headersTimeout, 10_000);
});

t.test('a connection that serves 100 requests accumulates no event listeners', async t => {
  const { open, sockets } = await start(t);
  const conversation = await open();
  const listeners = () => {
    const [socket] = sockets;
    return socket?.eventNames().map(name => [name, socket.listenerCount(name)]);
  };
  let initial: unknown;
  for (let request = 1; request <= 100; request += 1) {
    conversation.send(head('GET /auth HTTP/1.1', VALID));
    await conversation.answers(request);
    if (request === 2) initial = listeners();
  }
  t.strictSame(listeners(), initial);
  t.equal(sockets.size, 1);
});

t.test('an HTTP/1.0 connection is closed after the response, unless it requests keep-alive', async t => {
  const { open } = await start(t);
  const plain = await open();
  plain.send(`GET /auth HTTP/1.0\r\n${VALID}\r\n\r\n`);
  t.strictSame(statuses(await plain.closed), [200]);
  const kept = await open();
  kept.send(`GET /auth HTTP/1.0\r\nConnection: keep-alive\r\n${VALID}\r\n\r\n`);
  await kept.answers(1);
  kept.send('GET /auth HTTP/1.0\r\n\r\n');
  t.strictSame(statuses(await kept.closed), [200, 401]);
});

t.test('pipelined requests are authorized and answered one after the other', async t => {
  const waiting: (() => void)[] = [];
  const { open } = await start(t, {
    authorize: credential => {
      const decision = authorize(credential) as Decision;
      return waiting.length < 2 ? new Promise(resolve => waiting.push(() => resolve(decision))) : decision;
    },
  });
  const conversation = await open();
  conversation.send(
    [VALID, 'X-None: x', 'Authorization: Bearer bad', VALID].map(line => head('GET /auth HTTP/1.1', line)).join(''),
  );
  await until(() => waiting.length === 1);
  waiting[0]?.();
  t.strictSame(statuses(await conversation.answers(1)), [200]);
  await until(() => waiting.length === 2);
  waiting[1]?.();
  t.strictSame(statuses(await conversation.answers(4)), [200, 401, 401, 200]);
});

t.test('internal errors of the HTTP listener are reported and fail closed', async t => {
  const fault = new Error('unexpected');

  t.test('an error in authorize is answered as unavailable and reported', async t => {
    const failing: Authorize[] = [
      () => {
        throw fault;
      },
      () => Promise.reject(fault),
    ];
    for (const authorize of failing) {
      const { url, faults, decided } = await start(t, { authorize });
      const { status, body, headers } = await sendRequest(url, { token: 'good' });
      t.equal(status, 503);
      t.equal(body, INTERNAL);
      t.match(headers, { 'retry-after': '1', 'x-gatecar-reason': 'authority_unavailable' });
      t.strictSame(faults, [fault]);
      t.match(decided, [{ decision: { kind: 'unavailable', cause: 'internal_error' } }]);
      t.equal(decided.length, 1);
    }
  });

  t.test('an error in rendering an allow is answered as unavailable', async t => {
    const answer = (decision: Decision) => {
      if (decision.kind === 'allow') throw fault;
      return render(decision);
    };
    for (const decide of [authorize, async (credential: Parameters<Authorize>[0]) => authorize(credential)]) {
      const { url, faults } = await start(t, { answer, authorize: decide });
      t.match(await sendRequest(url, { token: 'good' }), { status: 503, body: INTERNAL });
      t.strictSame(faults, [fault]);
    }
  });

  t.test('an error in onDecision is reported and does not change the HTTP response', async t => {
    const onDecision = () => {
      throw fault;
    };
    for (const decide of [authorize, async (credential: Parameters<Authorize>[0]) => authorize(credential)]) {
      const { url, faults } = await start(t, { onDecision, authorize: decide });
      t.equal((await sendRequest(url, { token: 'good' })).status, 200);
      t.strictSame(faults, [fault]);
    }
  });

  t.test('if no response can be rendered, the connection is closed', async t => {
    const answer = () => {
      throw fault;
    };
    for (const decide of [authorize, async (credential: Parameters<Authorize>[0]) => authorize(credential)]) {
      const { open, faults } = await start(t, { answer, authorize: decide });
      const conversation = await open();
      conversation.send(head('GET /auth HTTP/1.1', VALID));
      t.strictSame(await conversation.closed, []);
      t.strictSame(faults, [fault, fault]);
    }
  });

  t.test('an error in onDecision does not change the HTTP response to an internal error', async t => {
    const logged = new Error('unexpected in onDecision');
    const onDecision = () => {
      throw logged;
    };
    const { url, faults } = await start(t, { onDecision, authorize: () => Promise.reject(fault) });
    t.equal((await sendRequest(url, { token: 'good' })).status, 503);
    t.strictSame(faults, [fault, logged]);
  });

  t.test('onFault is optional', async t => {
    const { app: gateway } = createHttpListener({
      ...roomyLimits(),
      authorize: () => Promise.reject(fault),
      answer: render,
      trusted: trustedProxies([]),
      clientIpHeader: undefined,
    });
    await gateway.ready();
    gateway.server.listen(0, '127.0.0.1');
    await once(gateway.server, 'listening');
    t.teardown(() => gateway.server.close());
    t.equal((await sendRequest(`http://127.0.0.1:${(gateway.server.address() as AddressInfo).port}`)).status, 503);
  });
});

t.test('an HTTP client that disconnects before the decision keeps its address and causes no fault', async t => {
  const { promise, resolve } = Promise.withResolvers<Decision>();
  const trusted = trustedProxies(['unix']);
  const { open, sockets, faults, decided } = await start(t, { authorize: () => promise, trusted });
  const conversation = await open();
  conversation.send(head('GET /auth HTTP/1.1', VALID, 'X-Request-Id: untrusted'));
  await until(() => [...sockets].some(socket => socket.bytesRead > 0));
  conversation.destroy();
  await until(() => sockets.size === 0);
  resolve({ kind: 'allow', identity: undefined });
  await until(() => decided.length === 1);
  t.strictSame(faults, []);
  // The address was read before the peer disconnected; it is not treated as a Unix socket.
  t.match(decided[0]?.forwarded(), { clientAddress: '127.0.0.1', requestId: undefined });
});

t.test('while draining every HTTP response closes its connection', async t => {
  let draining = false;
  const { open } = await start(t, { draining: () => draining });
  for (const credential of [VALID, 'X-None: x']) {
    draining = false;
    const conversation = await open();
    conversation.send(head('GET /auth HTTP/1.1', credential));
    const [before] = await conversation.answers(1);
    t.equal(before?.headers.get('connection'), 'keep-alive');
    draining = true;
    conversation.send(head('GET /auth HTTP/1.1', credential));
    const [, during] = await conversation.closed;
    t.equal(during?.status, before?.status);
    t.equal(during?.headers.get('connection'), 'close');
  }
});

t.test('onDecision receives the decision with its response, duration and forwarded values', async t => {
  const clock = fakeClock();
  const { url, decided } = await start(t, {
    now: clock.now,
    trusted: trustedProxies(['127.0.0.0/8']),
    clientIpHeader: 'x-real-ip',
    authorize: async credential => {
      clock.advance(42);
      return authorize(credential);
    },
  });
  const headers = { 'X-Real-IP': '203.0.113.7', 'X-Original-URI': '/app?secret=1', 'X-Original-Method': 'DELETE' };
  await sendRequest(url, { token: 'good', headers });
  const [first] = decided;
  t.match(first, {
    protocol: 'http',
    decision: { kind: 'allow' },
    answer: { status: 200 },
    credential: { kind: 'token' },
    durationMs: 42,
  });
  t.match(first?.forwarded(), { clientAddress: '203.0.113.7', uri: '/app', method: 'DELETE' });
});

t.test('the trace of an HTTP request is passed to authorize and to onDecision', async t => {
  const trace = { source: 'local' as const };
  const contexts: unknown[] = [];
  const parents: unknown[] = [];
  const { url, decided } = await start(t, {
    trusted: trustedProxies(['127.0.0.1']),
    startTrace(parent) {
      parents.push(parent());
      return trace;
    },
    authorize(credential, context) {
      contexts.push(context);
      return authorize(credential);
    },
  });
  const span = '00f067aa0ba902b7';
  const traceparent = `00-4bf92f3577b34da6a3ce929d0e0e4736-${span}-01`;
  await sendRequest(url, { token: 'good', headers: { traceparent } });
  t.match(contexts, [{ client: undefined, trace }]);
  t.ok(
    (contexts[0] as { heldBytes: number }).heldBytes > traceparent.length,
    'the context has the bytes held while the request waits',
  );
  t.match(parents, [{ spanId: span }]);
  t.equal(decided[0]?.trace, trace);
});

t.test('the memory of a waiting request is estimated from its headers and its target', async t => {
  const heldBytes: (number | undefined)[] = [];
  const { answer } = await start(t, {
    authorize(credential, context) {
      heldBytes.push(context?.heldBytes);
      return authorize(credential);
    },
  });
  await answer(head('GET /auth HTTP/1.1', VALID));
  await answer(head(`GET /auth?${'q'.repeat(1000)} HTTP/1.1`, VALID));
  await answer(head('GET /auth HTTP/1.1', VALID, `X: ${'x'.repeat(1000)}`));
  const [plain = 0, longTarget = 0, longHeader = 0] = heldBytes;
  t.equal(longTarget - plain, 1001);
  t.ok(longHeader - plain >= 2000);
});

t.test(
  'invalid HTTP after a pending request does not prevent its response, which is the last on the connection',
  async t => {
    const decision = Promise.withResolvers<Decision>();
    const started = Promise.withResolvers<void>();
    const { open } = await start(t, {
      authorize() {
        started.resolve();
        return decision.promise;
      },
    });
    const conversation = await open();
    conversation.send(`${head('GET /auth HTTP/1.1', VALID)}\0\0garbage\r\n\r\n`);
    await started.promise;
    decision.resolve({ kind: 'allow', identity: undefined });
    t.match(await conversation.closed, [{ status: 200 }]);
  },
);

t.test('over TLS 60 KiB of headers are accepted, and 66 KiB get a 431', async t => {
  const tls = {
    material: { cert: Buffer.from(pem('server.crt')), key: Buffer.from(pem('server.key')), clientCa: undefined },
    onReplaced: () => {},
  };
  const { server } = await start(t, { tls });
  const status = (size: number) =>
    new Promise<number>((resolve, reject) => {
      const { port } = server.address() as AddressInfo;
      const filler = { a: 'x'.repeat(size / 2), b: 'x'.repeat(size / 2) };
      const headers = { Authorization: 'Bearer good', ...filler };
      request({ port, host: '127.0.0.1', path: '/auth', ca: pem('ca.crt'), headers }, response => {
        response.resume();
        resolve(response.statusCode ?? 0);
      })
        .once('error', reject)
        .end();
    });
  t.equal(await status(60 * 1024), 200);
  t.equal(await status(66 * 1024), 431);
});

t.test('150 requests that wait for the same review are all answered, over several event loop turns', async t => {
  const decision = Promise.withResolvers<Decision>();
  let pending = 0;
  const { open, decided } = await start(t, {
    authorize() {
      pending += 1;
      return decision.promise;
    },
  });
  const conversations = await Promise.all(Array.from({ length: 150 }, () => open()));
  let counted = 0;
  for (const conversation of conversations) conversation.send(head('GET /auth HTTP/1.1', VALID));
  const turns = new Set<number>();
  let turn = 0;
  const count = (): void => {
    turn += 1;
    if (decided.length > counted) turns.add(turn);
    counted = decided.length;
    if (counted < conversations.length) setImmediate(count);
  };
  await until(() => pending === conversations.length);
  decision.resolve({ kind: 'allow', identity: undefined });
  count();
  const answers = await Promise.all(conversations.map(conversation => conversation.answers(1)));
  t.ok(answers.every(([answer]) => answer?.status === 200));
  t.ok(turns.size > 1, `${turns.size} turns`);
});
