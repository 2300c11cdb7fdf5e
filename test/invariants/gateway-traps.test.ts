import t from 'tap';
import { converse, head, statuses } from '../fixtures/conversation.ts';
import { envoyClient } from '../fixtures/envoy-client.ts';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { assertSameResponses, comparableResponse, ODD_PATHS, URI_HEADERS } from '../fixtures/same-responses.ts';
import { sendRequest } from '../fixtures/send-request.ts';

// Each title begins with the trap's number in the list of SECURITY.md, which describes how it
// affected other products.

const gatecar = await startWithFakeApi({
  // The most trusting configuration: a trusted proxy sets everything about the original request.
  GATECAR_TRUSTED_PROXIES: '127.0.0.0/8',
  GATECAR_CLIENT_IP_HEADER: 'X-Forwarded-For',
  GATECAR_GRPC_LISTEN: '127.0.0.1:0',
  GATECAR_ALLOWED_NAMESPACES: 'default',
});
t.teardown(() => gatecar.stop());
const envoy = envoyClient(gatecar.grpc);
t.teardown(() => envoy.close());
const token = gatecar.token();
const GOOD = `Authorization: Bearer ${token}`;

t.test('§3.1 a body that is announced and not sent neither swallows nor splits the next request', async t => {
  const victim = head('GET /auth HTTP/1.0', 'X-Original-URI: GET /auth HTTP/1.0', 'Connection: keep-alive', GOOD);
  const swallowed = victim.indexOf('GET /auth', 1);
  for (const method of ['POST', 'GET', 'PUT', 'DELETE', 'PATCH', 'PROPFIND']) {
    for (const credential of [[], [GOOD]]) {
      const conversation = await converse(gatecar.auth);
      conversation.send(head(`${method} /auth HTTP/1.1`, ...credential, `Content-Length: ${swallowed}`));
      const [answer] = await conversation.answers(1);
      t.equal(answer?.headers.get('connection'), 'close', 'a gateway that obeys this uses another connection');
      conversation.send(victim);
      conversation.send(victim);
      t.same(
        statuses(await conversation.closed),
        [credential.length === 0 ? 401 : 200],
        'a gateway that ignores it gets no response to the next request',
      );
    }
  }
});

t.test(
  '§3.3 chunks that are announced and not sent stall nothing, and an allow has no content type or cookie to copy',
  async t => {
    const conversation = await converse(gatecar.auth);
    conversation.send(
      head('HEAD /auth HTTP/1.1', 'connection: close', 'transfer-encoding: chunked', GOOD.replace('A', 'a')),
    );
    const [answer] = await conversation.answers(1);
    t.equal(answer?.status, 200);
    t.notOk(answer?.headers.has('content-type'));
    t.notOk(answer?.headers.has('set-cookie'));
    conversation.destroy();
  },
);

t.test('§3.4 a query on the auth path, which the client may control, changes nothing', async t => {
  const queries = [
    '?',
    '?y=1',
    '?token=x',
    '?verbose',
    '?allow=true',
    `?access_token=${token}`,
    `?${'q'.repeat(50_000)}`,
  ];
  await assertSameResponses(
    t,
    gatecar.auth,
    token,
    queries.map(query => ({ path: `/auth${query}` })),
  );
});

t.test('§3.5 an allow carries every identity header, also for a user without values for them', async t => {
  const names = ['Pod', 'Pod-Uid', 'Node', 'Node-Uid', 'Truncated'];
  const headers = Object.fromEntries(names.map(name => [`X-Auth-Request-${name}`, 'forged']));
  const reply = await sendRequest(gatecar.auth, { token, headers });
  for (const name of names) t.equal(reply.headers[`x-auth-request-${name.toLowerCase()}`], '', name);
  t.same(reply.headers['x-envoy-auth-headers-to-remove'], names.map(name => `X-Auth-Request-${name}`).join());
  const { ok_response: ok } = await envoy.checkHeaders({
    authorization: `Bearer ${token}`,
    'x-auth-request-pod': 'forged',
  });
  t.same(
    ok?.headers_to_remove,
    names.map(name => `X-Auth-Request-${name}`),
  );
});

t.test('§3.6 a path that parsers read differently does not change the result', async t => {
  const requests = ODD_PATHS.flatMap(path => [
    ...(path.includes('#') ? [] : [{ path: `/auth${path}` }]),
    { headers: Object.fromEntries(URI_HEADERS.map(name => [name, path])) },
  ]);
  await assertSameResponses(t, gatecar.auth, token, requests);
});

t.test('§3.7 no method passes without a credential, including preflights and TRACE', async t => {
  const headers = { Origin: 'https://a.example', 'Access-Control-Request-Method': 'POST' };
  const methods = ['OPTIONS', 'TRACE', 'HEAD', 'PROPFIND', 'PURGE', 'MKCOL', 'QUERY', 'M-SEARCH'];
  for (const method of methods) {
    const reply = await sendRequest(gatecar.auth, { method, headers });
    t.equal(reply.status, 401, method);
    t.notMatch(Object.keys(reply.headers).join(), /access-control|allow/);
    t.equal((await sendRequest(gatecar.auth, { method, headers, token })).status, 200, method);
  }
});

t.test('§3.9 no response may be cached by a gateway', async t => {
  const otherNamespace = gatecar.token({ namespace: 'foreign' });
  for (const request of [{ token }, { token: otherNamespace }, { token: 'unknown' }, {}]) {
    t.equal((await sendRequest(gatecar.auth, request)).headers['cache-control'], 'no-store');
  }
});

t.test('§3.10 cookies are neither read nor set', async t => {
  const cookies = [
    `token=${token}`,
    `authorization=Bearer ${token}`,
    `__Host-session=${token}`,
    `Authorization: Bearer ${token}`,
  ];
  await assertSameResponses(
    t,
    gatecar.auth,
    token,
    cookies.map(Cookie => ({ headers: { Cookie } })),
  );
  for (const request of [{ token }, {}]) t.notOk('set-cookie' in (await sendRequest(gatecar.auth, request)).headers);
});

t.test('§3.11 naming headers in Connection removes none from the request or the response', async t => {
  for (const value of [
    'Authorization',
    'close, Authorization',
    'X-Auth-Request-User',
    'Content-Length, Cache-Control',
  ]) {
    const reply = await sendRequest(gatecar.auth, { token, headers: { Connection: value } });
    t.equal(reply.status, 200, value);
    t.equal(reply.headers['x-auth-request-user'], 'system:serviceaccount:default:my-app');
    t.match(reply.headers.connection, /^(close|keep-alive)$/);
    t.equal((await sendRequest(gatecar.auth, { headers: { Connection: value } })).status, 401);
  }
});

t.test('§3.13 an outage is reported as an outage, on HTTP and gRPC, and never as an RPC error', async t => {
  const down = await startWithFakeApi({ GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  t.teardown(() => down.stop());
  const client = envoyClient(down.grpc);
  t.teardown(() => client.close());
  await down.apiServer.close();
  t.equal((await sendRequest(down.auth, { token: down.token() })).status, 503);
  const response = await client.checkHeaders({ authorization: `Bearer ${down.token()}` });
  t.match(response, {
    status: { code: 14 },
    http_response: 'denied_response',
    denied_response: { status: { code: 503 } },
  });
});

t.test('§3.14 several credentials count as none, however they are joined, and so does an empty one', async t => {
  const otherCredential = 'Authorization: Bearer other';
  for (const [lines, text] of [
    [[GOOD, GOOD], /Invalid/],
    [[GOOD, otherCredential], /Invalid/],
    [[otherCredential, GOOD], /Invalid/],
    [[`${GOOD}, Bearer ${token}`], /Invalid/],
    [[`${GOOD},Bearer other`], /Invalid/],
    [[`${GOOD},`], /Invalid/],
    [[GOOD, 'aUTHORIZATION: x'], /Invalid/],
    [['Authorization:', GOOD], /Invalid/],
    [['Authorization:'], /Missing/],
    [['Authorization: '], /Missing/],
  ] as const) {
    const conversation = await converse(gatecar.auth);
    conversation.send(head('GET /auth HTTP/1.1', ...lines));
    t.match(
      await conversation.answers(1),
      [{ status: 401, body: text }],
      lines.join(' | ').replaceAll(token, '<token>'),
    );
    conversation.destroy();
  }
  const raw = (...values: string[]) => ({
    attributes: {
      request: { http: { header_map: { headers: values.map(value => ({ key: 'authorization', value })) } } },
    },
  });
  t.match(await envoy.check(raw(`Bearer ${token}`)), { status: { code: 0 } });
  t.match(await envoy.check(raw(`Bearer ${token}`, `Bearer ${token}`)), { status: { code: 16 } });
  t.match(await envoy.check(raw('', `Bearer ${token}`)), { status: { code: 16 } });
  t.match(await envoy.checkHeaders({ authorization: `Bearer ${token},Bearer ${token}` }), { status: { code: 16 } });
  const { header_map } = raw('Bearer other').attributes.request.http;
  const both = { headers: { authorization: `Bearer ${token}` }, header_map };
  t.match(
    await envoy.check({ attributes: { request: { http: both } } }),
    { status: { code: 16 } },
    'one credential in each field',
  );
});

t.test('§3.15 the length of a path does not change the result', async t => {
  const paths = [174, 175, 1_000, 8_192, 50_000].map(length => `/auth/${'p'.repeat(length)}`);
  const headers = paths.slice(0, 4).map(path => ({ headers: { 'X-Original-URI': path, 'X-Original-URL': path } }));
  await assertSameResponses(t, gatecar.auth, token, [...paths.map(path => ({ path })), ...headers]);
});

t.test('§3.16 header names are matched in any case', async t => {
  for (const name of ['authorization', 'Authorization', 'AUTHORIZATION', 'aUtHoRiZaTiOn']) {
    t.equal((await sendRequest(gatecar.auth, { headers: { [name]: `Bearer ${token}` } })).status, 200, name);
    t.match(await envoy.checkHeaders({ [name]: `Bearer ${token}` }), { status: { code: 0 } }, name);
  }
});

t.test('§3.17 the path after the prefix is not resolved, and no part of it is taken for a host', async t => {
  for (const target of [
    '/auth//x',
    '/auth/../x',
    '/auth/%2e%2e/x',
    '/auth//evil.example/p',
    '/auth/\\..\\x',
    '/auth/http://x/',
  ]) {
    for (const [credential, status] of [
      [[GOOD], 200],
      [[], 401],
    ] as const) {
      const conversation = await converse(gatecar.auth);
      conversation.send(head(`GET ${target} HTTP/1.1`, ...credential));
      t.same(statuses(await conversation.answers(1)), [status], target);
      conversation.destroy();
    }
  }
});

t.test('§3.18 method, address and host of the original request change nothing, even from a trusted proxy', async t => {
  await assertSameResponses(t, gatecar.auth, token, [
    {
      headers: { 'X-Forwarded-Method': 'OPTIONS', 'X-Original-Method': 'OPTIONS', 'X-HTTP-Method-Override': 'OPTIONS' },
    },
    {
      headers: {
        'X-Forwarded-Host': 'public.example',
        'X-Forwarded-Uri': '/healthz',
        Forwarded: 'host=public.example',
      },
    },
    {
      headers: { 'X-Forwarded-For': '127.0.0.1', 'X-Real-IP': '127.0.0.1', 'X-Sent-From': 'nginx-ingress-controller' },
    },
    { headers: { 'X-Forwarded-For': ['127.0.0.1', '::1, 10.0.0.1', ','] } },
    { headers: { 'User-Agent': 'kube-probe/1.36' } },
  ]);
});

t.test('§3.19 no response redirects the client', async t => {
  const targets = ['https://evil.example/', '//evil.example', '/\\evil.example', 'javascript:alert(1)'];
  const headers = targets.map(to => ({
    headers: { 'X-Auth-Request-Redirect': to, Host: 'evil.example', Referer: to },
  }));
  await assertSameResponses(t, gatecar.auth, token, [
    ...headers,
    ...targets.map(to => ({ path: `/auth?rd=${encodeURIComponent(to)}` })),
  ]);
  for (const request of [{ token }, {}])
    t.notMatch(comparableResponse(await sendRequest(gatecar.auth, request)), /location|refresh:/i);
});
