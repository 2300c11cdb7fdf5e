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
import { ask } from '../../fixtures/ask.ts';
import { fakeClock } from '../../fixtures/clock.ts';
import { type Conversation, converse, head, statuses } from '../../fixtures/conversation.ts';
import { roomyLimits } from '../../fixtures/limits.ts';
import { pem } from '../../fixtures/tls-server.ts';
import { until } from '../../fixtures/until.ts';
import { acceptedAs } from '../../fixtures/verdicts.ts';

const yes = acceptedAs();
const GOOD = 'Authorization: Bearer good';
const INTERNAL = '{"error":"TokenReview API call failed: internal error"}';

/** Takes the token `good` and no other. */
const authorize: Authorize = createAuthorizer(
  {
    authenticate: token =>
      revealToken(token) === 'good'
        ? yes
        : { kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' },
  },
  { allowedNamespaces: undefined, allowedServiceAccounts: undefined },
);

const render = createResponseRenderer({
  policyDeniedStatus: 401,
  unavailableStatus: 503,
  errorDetail: 'full',
  identityHeaderPrefix: 'X-Auth-Request-',
});

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
    onDecision: one => decided.push(one),
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
  /** The first answer to these bytes. */
  const answer = async (bytes: string) => {
    const conversation = await open();
    conversation.send(bytes);
    const [first] = await conversation.answers(1);
    if (first === undefined) throw new Error(`closed without an answer: ${conversation.received()}`);
    return first;
  };
  return { url, server, decided, faults, sockets, open, answer };
}

t.test('an allow is exactly 200, with every identity header once and nothing that says of a body', async t => {
  const { open } = await start(t);
  const conversation = await open();
  conversation.send(head('GET /auth HTTP/1.1', GOOD));
  await conversation.answers(1);
  const [statusLine, ...lines] = conversation
    .received()
    .replace(/\r\n\r\n$/, '')
    .split('\r\n');
  t.equal(statusLine, 'HTTP/1.1 200 OK');
  const names = lines.map(line => line.split(':', 1)[0]);
  t.strictSame(names.slice(0, 3), ['Content-Length', 'Cache-Control', 'X-Auth-Request-User']);
  t.equal(new Set(names).size, names.length, 'no name twice');
  t.equal(names.filter(name => name?.startsWith('X-Auth-Request-')).length, 12);
  t.ok(lines.includes('Content-Length: 0'));
  t.ok(lines.includes('X-Auth-Request-User: system:serviceaccount:default:my-app'));
  t.notOk(names.some(name => /content-type|transfer-encoding|vary|etag|^server$/i.test(name ?? '')));
});

t.test('every auth request is served by the Fastify route of `/auth`, and no other request is', async t => {
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
  const statusOf = async (path: string) => (await ask(url, { path, token: 'good' })).status;
  t.equal(await statusOf('/auth'), 200);
  t.equal(await statusOf('/auth/x?y'), 200);
  t.equal(await statusOf('/authx'), 404);
  t.strictSame(routes, ['/auth', '/auth', undefined]);
});

t.test('a denial is JSON of known length, with its challenge', async t => {
  const { url } = await start(t);
  const { status, headers, body } = await ask(url, { token: 'bad' });
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

t.test('the credential decides in every method there is', async t => {
  const { answer, decided } = await start(t);
  const methods = METHODS.filter(method => method !== 'CONNECT' && method !== 'HEAD');
  t.ok(methods.includes('PROPFIND') && methods.includes('PURGE') && methods.includes('QUERY'));
  for (const method of methods) {
    t.equal((await answer(head(`${method} /auth HTTP/1.1`, GOOD))).status, 200, method);
    t.equal((await answer(head(`${method} /auth HTTP/1.1`))).status, 401, method);
  }
  t.equal(decided.length, 2 * methods.length);
});

t.test('CONNECT opens no tunnel and is no question', async t => {
  const { open, decided } = await start(t);
  const conversation = await open();
  conversation.send(head('CONNECT /auth HTTP/1.1', GOOD));
  t.strictSame(await conversation.closed, []);
  t.equal(decided.length, 0);
});

t.test('whatever follows /auth is not read', async t => {
  const { answer } = await start(t);
  const targets = [
    ...['/auth', '/auth/', '/auth/x', '/auth//x', '/auth/%zz', '/auth/..%2f', '/auth/../x', '/auth/%00', '/auth/\\x'],
    ...[
      '/auth?',
      '/auth?a=1&a=2',
      '/auth?%zz',
      '/auth/?x',
      '/auth//',
      '/auth/;',
      '/auth/%2e%2e/metrics',
      '/auth/*',
      '/auth*',
    ],
    `/auth?${'q'.repeat(50 * 1024)}`,
    `/auth/${'p'.repeat(50 * 1024)}`,
    ...['http://gatecar/auth', 'HTTP://gatecar:9080/auth/x', 'https://user@gatecar/auth?x'],
  ];
  for (const target of targets) {
    t.equal((await answer(head(`GET ${target} HTTP/1.1`, GOOD))).status, 200, target.slice(0, 40));
    t.equal((await answer(head(`GET ${target} HTTP/1.1`))).status, 401, target.slice(0, 40));
  }
});

t.test('any other target is not found, whatever the credential, and is no question', async t => {
  const { answer, decided } = await start(t);
  const targets = [
    ...['/', '/authx', '/aut', '/AUTH', '/auth%2f', '/auth.', '/x/auth', '//auth', '/./auth', '/%61uth', '/auth;x'],
    ...[
      '/metrics',
      '/livez',
      '/readyz',
      '/%zz',
      'http://gatecar/',
      'http://gatecar',
      'http://auth/',
      'ftp://gatecar/auth',
    ],
  ];
  for (const target of targets) {
    const { status, headers, body } = await answer(head(`GET ${target} HTTP/1.1`, GOOD));
    t.equal(status, 404, target);
    t.equal(body, '{"error":"Not found: ask /auth"}');
    t.equal(headers.get('connection'), 'keep-alive');
  }
  t.equal((await answer(head('OPTIONS * HTTP/1.1', GOOD))).status, 404);
  for (const method of ['POST', 'PURGE', 'PUT']) t.equal((await answer(head(`${method} / HTTP/1.1`))).status, 404);
  t.equal(decided.length, 0);
});

t.test('headers that make other servers answer otherwise change nothing', async t => {
  const { open } = await start(t);
  const lines = [
    ...['Expect: 200-ok', 'Expect:', 'Expect: x, y'],
    ...['Content-Type: application/json', 'Content-Type: text/xml', 'Content-Type: nonsense', 'Content-Type:'],
    ...['If-None-Match: *', 'If-Match: "x"', 'If-Modified-Since: Wed, 21 Oct 2037 07:28:00 GMT', 'Range: bytes=0-0'],
    ...['Accept: image/png', 'Accept-Encoding: gzip', 'Accept-Version: 2', 'X-HTTP-Method-Override: POST'],
    ...['Connection: Upgrade\r\nUpgrade: websocket', 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c'],
    ...['Origin: https://evil.example', 'User-Agent: kube-probe/1.36', 'Content-Length: 0', 'Max-Forwards: 0'],
  ];
  const whole = async (credential: string, line: string) => {
    const conversation = await open();
    conversation.send(head('GET /auth HTTP/1.1', credential, line));
    await conversation.answers(1);
    return conversation.received().replace(/^Date: .*\r\n/m, '');
  };
  for (const credential of [GOOD, 'Authorization: Bearer bad', 'X-Nothing: here']) {
    const plain = await whole(credential, 'X-Nothing: else');
    for (const line of lines) t.equal(await whole(credential, line), plain, line);
    // Node keeps no connection on which somebody waits for a 100 that never came.
    const closing = plain.replace(/Connection: keep-alive\r\nKeep-Alive: .*\r\n/, 'Connection: close\r\n');
    t.equal(await whole(credential, 'Expect: 100-continue'), closing);
  }
});

t.test('HEAD is answered as GET, without the body', async t => {
  const { open } = await start(t);
  for (const line of [GOOD, 'Authorization: Bearer bad', 'Authorization:', 'Authorization: Basic eDp5']) {
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

t.test('a declared body', async t => {
  const declared = ['Content-Length: 20', 'Content-Length: 00020', 'Transfer-Encoding: chunked'];

  t.test('is not awaited, and its connection is closed a while after the answer', async t => {
    const { open, decided } = await start(t, { lingerMs: 50 });
    for (const line of declared) {
      for (const [target, credential, status] of [
        ['/auth', GOOD, 200],
        ['/auth', 'X-None: x', 401],
        ['/elsewhere', GOOD, 404],
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

  t.test('that comes whole is read to its end, and then the connection is closed at once', async t => {
    const { open } = await start(t, { lingerMs: 600_000 });
    const bodies = [
      'Content-Length: 20\r\n\r\n01234567890123456789',
      'Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n',
    ];
    for (const body of bodies) {
      for (const credential of [GOOD, 'X-None: x']) {
        const conversation = await open();
        conversation.send(`POST /auth HTTP/1.1\r\nHost: x\r\n${credential}\r\n${body}`);
        t.equal((await conversation.closed).length, 1);
      }
    }
  });

  t.test('that comes slowly does not have its connection reset under it', async t => {
    const { open, sockets } = await start(t, { lingerMs: 600_000 });
    const conversation = await open();
    const request = head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 20');
    conversation.send(request);
    await conversation.answers(1);
    const [socket] = sockets;
    conversation.send('0123456789');
    await until(() => socket?.bytesRead === request.length + 10 || sockets.size === 0);
    t.equal(sockets.size, 1, 'still there');
    conversation.send('0123456789');
    t.strictSame(statuses(await conversation.closed), [200]);
  });

  t.test('is not awaited for HEAD either, which has none to answer', async t => {
    const { open } = await start(t, { lingerMs: 600_000 });
    for (const [credential, status] of [
      [GOOD, 200],
      ['X-None: x', 401],
    ]) {
      const conversation = await open();
      conversation.send(head('HEAD /auth HTTP/1.1', `${credential}`, 'Content-Length: 4'));
      await until(() => conversation.received().endsWith('\r\n\r\n'));
      t.match(conversation.received(), new RegExp(`^HTTP/1\\.1 ${status} .*\r\nConnection: close\r\n`, 's'));
      const soFar = conversation.received();
      conversation.send('body');
      await conversation.closed;
      t.equal(conversation.received(), soFar);
    }
  });

  t.test('of more than 32 MiB is not read to its end', async t => {
    const { open } = await start(t, { lingerMs: 600_000 });
    const conversation = await open();
    const size = 33 * 1024 * 1024;
    conversation.send(`${head('POST /auth HTTP/1.1', GOOD, `Content-Length: ${size + 1}`)}${'x'.repeat(size)}`);
    t.strictSame(statuses(await conversation.closed), [200]);
  });

  t.test('that its sender breaks off leaves nothing behind', async t => {
    const { open, sockets, faults } = await start(t, { lingerMs: 600_000 });
    const timers = () => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length;
    const before = timers();
    for (const leave of ['end', 'destroy', 'reset'] as const) {
      const conversation = await open();
      conversation.send(`${head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 20')}half`);
      await conversation.answers(1);
      if (leave === 'reset') conversation.socket.resetAndDestroy();
      else conversation[leave]();
      await until(() => sockets.size === 0);
      t.equal(timers(), before, leave);
    }
    t.strictSame(faults, []);
  });

  t.test('of no length is none, and its connection is kept', async t => {
    const { open } = await start(t);
    for (const line of ['Content-Length: 0', 'Content-Length: 000']) {
      const conversation = await open();
      conversation.send(head('POST /auth HTTP/1.1', GOOD, line));
      await conversation.answers(1);
      conversation.send(head('POST /auth HTTP/1.1', line));
      t.strictSame(statuses(await conversation.answers(2)), [200, 401]);
    }
  });

  t.test('that never comes cannot make a later request of a header’s value', async t => {
    // nginx with a kept-alive connection and the client's Content-Length: the next request is taken for the body, up to
    // where the attacker wrote a request line into a header's value.
    const { open, decided } = await start(t, { lingerMs: 50 });
    const first = head('POST /auth HTTP/1.1', 'Content-Length: LENGTH');
    const swallowed = `GET /auth HTTP/1.1\r\nHost: gatecar\r\nX-Smuggled: `;
    const rest = `GET /auth HTTP/1.1\r\nHost: gatecar\r\n${GOOD}\r\n\r\n`;
    for (const line of ['Content-Length', 'content-length']) {
      const conversation = await open();
      conversation.send(first.replace('Content-Length: LENGTH', `${line}: ${swallowed.length}`));
      await conversation.answers(1);
      conversation.send(swallowed + rest);
      const answers = await conversation.closed;
      t.strictSame(statuses(answers), [401], 'the one answer is to the first request');
    }
    t.ok(decided.length >= 2);
  });
});

t.test('what is no HTTP', async t => {
  t.test('is 400 and a closed connection', async t => {
    const { open, decided } = await start(t);
    const garbage = [
      'hello\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      head('GET /auth HTTP/1.1', 'Content-Length: 1', 'Transfer-Encoding: chunked'),
      head('GET /auth HTTP/1.1', 'Content-Length: 1', 'Content-Length: 2'),
      head('GET /auth HTTP/1.1', 'Name without colon'),
      head('GET /auth HTTP/1.1', 'X: a\0b'),
      `GET /auth HTTP/1.1\r\n${GOOD}\r\n\r\n`,
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

  t.test('is let go of, also by who says never that it ends', async t => {
    const { url, sockets } = await start(t, { requestTimeoutMs: 60_000 });
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    t.teardown(() => socket.destroy());
    socket.resume().write('hello\r\n\r\n');
    await once(socket, 'end');
    await until(() => sockets.size === 0);
    t.equal(socket.writable, true, 'our side was never closed');
  });

  t.test('but breaks off in the middle, is let go without a word', async t => {
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

  t.test('60 KiB of headers are HTTP, and 100 KB are too many', async t => {
    const { answer, open } = await start(t);
    t.equal((await answer(head('GET /auth HTTP/1.1', GOOD, `X-Long: ${'x'.repeat(60 * 1024)}`))).status, 200);
    const conversation = await open();
    conversation.send(head('GET /auth HTTP/1.1', GOOD, `X-Long: ${'x'.repeat(100_000)}`));
    const [refusal] = await conversation.closed;
    t.equal(refusal?.status, 431);
    t.equal(refusal?.headers.get('connection'), 'close');
  });

  t.test('no header is left out, however many there are', async t => {
    const { answer } = await start(t, { lingerMs: 50 });
    const many = Array.from({ length: 5000 }, () => 'a: b');
    t.equal((await answer(head('GET /auth HTTP/1.1', GOOD, ...many))).status, 200);
    t.equal((await answer(head('GET /auth HTTP/1.1', GOOD, ...many, GOOD))).status, 401);
    const body = await answer(head('POST /auth HTTP/1.1', GOOD, ...many, 'Content-Length: 9'));
    t.equal(body.headers.get('connection'), 'close');
  });
});

t.test('a head that does not come to an end is refused in time, and an idle connection is kept', async t => {
  const { open } = await start(t, { requestTimeoutMs: 50, timeoutCheckMs: 10 });
  const idle = await open();
  idle.send(head('GET /auth HTTP/1.1', GOOD));
  await idle.answers(1);
  const slow = await open();
  slow.send('GET /auth HTTP/1.1\r\nHost: x\r\n');
  t.strictSame(statuses(await slow.closed), [400]);
  idle.send(head('GET /auth HTTP/1.1'));
  t.strictSame(statuses(await idle.answers(2)), [200, 401]);
});

t.test('a connection is kept for longer than gateways keep theirs idle', async t => {
  const { server } = await start(t);
  t.equal(server.keepAliveTimeout, 61 * 60 * 1000);
  t.equal(server.timeout, 0);
  t.equal(server.maxRequestsPerSocket, 0);
  t.equal(server.headersTimeout, 10_000);
});

t.test('one connection serves request after request, and gathers nothing', async t => {
  const { open, sockets } = await start(t);
  const conversation = await open();
  const listeners = () => {
    const [socket] = sockets;
    return socket?.eventNames().map(name => [name, socket.listenerCount(name)]);
  };
  let known: unknown;
  for (let request = 1; request <= 100; request += 1) {
    conversation.send(head('GET /auth HTTP/1.1', GOOD));
    await conversation.answers(request);
    if (request === 2) known = listeners();
  }
  t.strictSame(listeners(), known);
  t.equal(sockets.size, 1);
});

t.test('HTTP/1.0 is answered and closed, or kept where it asks for that', async t => {
  const { open } = await start(t);
  const once10 = await open();
  once10.send(`GET /auth HTTP/1.0\r\n${GOOD}\r\n\r\n`);
  t.strictSame(statuses(await once10.closed), [200]);
  const kept = await open();
  kept.send(`GET /auth HTTP/1.0\r\nConnection: keep-alive\r\n${GOOD}\r\n\r\n`);
  await kept.answers(1);
  kept.send('GET /auth HTTP/1.0\r\n\r\n');
  t.strictSame(statuses(await kept.closed), [200, 401]);
});

t.test('requests sent at once are decided and answered one after the other', async t => {
  const waiting: (() => void)[] = [];
  const { open } = await start(t, {
    authorize: credential => {
      const decision = authorize(credential) as Decision;
      return waiting.length < 2 ? new Promise(resolve => waiting.push(() => resolve(decision))) : decision;
    },
  });
  const conversation = await open();
  conversation.send(
    [GOOD, 'X-None: x', 'Authorization: Bearer bad', GOOD].map(line => head('GET /auth HTTP/1.1', line)).join(''),
  );
  await until(() => waiting.length === 1);
  waiting[0]?.();
  t.strictSame(statuses(await conversation.answers(1)), [200]);
  await until(() => waiting.length === 2);
  waiting[1]?.();
  t.strictSame(statuses(await conversation.answers(4)), [200, 401, 401, 200]);
});

t.test('an error of ours', async t => {
  const fault = new Error('nobody foresaw this');

  t.test('in deciding is answered as unavailable, and told', async t => {
    const failing: Authorize[] = [
      () => {
        throw fault;
      },
      () => Promise.reject(fault),
    ];
    for (const authorize of failing) {
      const { url, faults, decided } = await start(t, { authorize });
      const { status, body, headers } = await ask(url, { token: 'good' });
      t.equal(status, 503);
      t.equal(body, INTERNAL);
      t.match(headers, { 'retry-after': '1', 'x-gatecar-reason': 'authority_unavailable' });
      t.strictSame(faults, [fault]);
      t.match(decided, [{ decision: { kind: 'unavailable', cause: 'internal_error' } }]);
      t.equal(decided.length, 1);
    }
  });

  t.test('in rendering is answered as unavailable too', async t => {
    const answer = (decision: Decision) => {
      if (decision.kind === 'allow') throw fault;
      return render(decision);
    };
    for (const decide of [authorize, async (credential: Parameters<Authorize>[0]) => authorize(credential)]) {
      const { url, faults } = await start(t, { answer, authorize: decide });
      t.match(await ask(url, { token: 'good' }), { status: 503, body: INTERNAL });
      t.strictSame(faults, [fault]);
    }
  });

  t.test('in counting or logging changes no answer', async t => {
    const onDecision = () => {
      throw fault;
    };
    for (const decide of [authorize, async (credential: Parameters<Authorize>[0]) => authorize(credential)]) {
      const { url, faults } = await start(t, { onDecision, authorize: decide });
      t.equal((await ask(url, { token: 'good' })).status, 200);
      t.strictSame(faults, [fault]);
    }
  });

  t.test('in rendering every response closes the connection', async t => {
    const answer = () => {
      throw fault;
    };
    for (const decide of [authorize, async (credential: Parameters<Authorize>[0]) => authorize(credential)]) {
      const { open, faults } = await start(t, { answer, authorize: decide });
      const conversation = await open();
      conversation.send(head('GET /auth HTTP/1.1', GOOD));
      t.strictSame(await conversation.closed, []);
      t.strictSame(faults, [fault, fault]);
    }
  });

  t.test('in logging an error of ours leaves its response as it is', async t => {
    const logged = new Error('nobody foresaw this either');
    const onDecision = () => {
      throw logged;
    };
    const { url, faults } = await start(t, { onDecision, authorize: () => Promise.reject(fault) });
    t.equal((await ask(url, { token: 'good' })).status, 503);
    t.strictSame(faults, [fault, logged]);
  });

  t.test('needs nobody who listens', async t => {
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
    t.equal((await ask(`http://127.0.0.1:${(gateway.server.address() as AddressInfo).port}`)).status, 503);
  });
});

t.test('a caller who leaves before the decision leaves no fault behind', async t => {
  const { promise, resolve } = Promise.withResolvers<Decision>();
  const trusted = trustedProxies(['unix']);
  const { open, sockets, faults, decided } = await start(t, { authorize: () => promise, trusted });
  const conversation = await open();
  conversation.send(head('GET /auth HTTP/1.1', GOOD, 'X-Request-Id: forged'));
  await until(() => [...sockets].some(socket => socket.bytesRead > 0));
  conversation.destroy();
  await until(() => sockets.size === 0);
  resolve({ kind: 'allow', identity: undefined });
  await until(() => decided.length === 1);
  t.strictSame(faults, []);
  // A peer that is gone is still the one it was, and no Unix socket.
  t.match(decided[0]?.forwarded(), { clientAddress: '127.0.0.1', requestId: undefined });
});

t.test('while draining every answer asks the gateway to leave', async t => {
  let draining = false;
  const { open } = await start(t, { draining: () => draining });
  for (const credential of [GOOD, 'X-None: x']) {
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

t.test('each decision is told with its answer, its duration and what the gateway said', async t => {
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
  await ask(url, { token: 'good', headers });
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

t.test('a request that is followed has its trail with the question, and with the decision', async t => {
  const trail = { source: 'local' as const };
  const questions: unknown[] = [];
  const parents: unknown[] = [];
  const { url, decided } = await start(t, {
    trusted: trustedProxies(['127.0.0.1']),
    follow(parent) {
      parents.push(parent());
      return trail;
    },
    authorize(credential, question) {
      questions.push(question);
      return authorize(credential);
    },
  });
  const span = '00f067aa0ba902b7';
  const traceparent = `00-4bf92f3577b34da6a3ce929d0e0e4736-${span}-01`;
  await ask(url, { token: 'good', headers: { traceparent } });
  t.match(questions, [{ client: undefined, trail }]);
  t.ok(
    (questions[0] as { heldBytes: number }).heldBytes > traceparent.length,
    'with what it would hold while it waits',
  );
  t.match(parents, [{ spanId: span }]);
  t.equal(decided[0]?.trail, trail);
});

t.test('the memory of a request that waits is estimated by its headers and its target', async t => {
  const heldBytes: (number | undefined)[] = [];
  const { answer } = await start(t, {
    authorize(credential, question) {
      heldBytes.push(question?.heldBytes);
      return authorize(credential);
    },
  });
  await answer(head('GET /auth HTTP/1.1', GOOD));
  await answer(head(`GET /auth?${'q'.repeat(1000)} HTTP/1.1`, GOOD));
  await answer(head('GET /auth HTTP/1.1', GOOD, `X: ${'x'.repeat(1000)}`));
  const [plain = 0, longTarget = 0, longHeader = 0] = heldBytes;
  t.equal(longTarget - plain, 1001);
  t.ok(longHeader - plain >= 2000);
});

t.test(
  'what is not valid HTTP behind a request that is owed its answer leaves it that answer, and the last',
  async t => {
    const decision = Promise.withResolvers<Decision>();
    const asked = Promise.withResolvers<void>();
    const { open } = await start(t, {
      authorize() {
        asked.resolve();
        return decision.promise;
      },
    });
    const conversation = await open();
    conversation.send(`${head('GET /auth HTTP/1.1', GOOD)}\0\0garbage\r\n\r\n`);
    await asked.promise;
    decision.resolve({ kind: 'allow', identity: undefined });
    t.match(await conversation.closed, [{ status: 200 }]);
  },
);

t.test('a head of 64 KiB is too large over TLS too, and one that is smaller is not', async t => {
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

t.test('requests that waited for the same review are all answered, over several turns', async t => {
  const decision = Promise.withResolvers<Decision>();
  let pending = 0;
  const { open, decided } = await start(t, {
    authorize() {
      pending += 1;
      return decision.promise;
    },
  });
  const conversations = await Promise.all(Array.from({ length: 150 }, () => open()));
  let asked = 0;
  for (const conversation of conversations) conversation.send(head('GET /auth HTTP/1.1', GOOD));
  const turns = new Set<number>();
  let turn = 0;
  const count = (): void => {
    turn += 1;
    if (decided.length > asked) turns.add(turn);
    asked = decided.length;
    if (asked < conversations.length) setImmediate(count);
  };
  await until(() => pending === conversations.length);
  decision.resolve({ kind: 'allow', identity: undefined });
  count();
  const answers = await Promise.all(conversations.map(conversation => conversation.answers(1)));
  t.ok(answers.every(([answer]) => answer?.status === 200));
  t.ok(turns.size > 1, `${turns.size} turns`);
});
