import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { sendRaw, sendRequest } from '../fixtures/send-request.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { startApplication } from './fixtures/support/application.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { gatewaySuite } from './fixtures/support/gateway-suite.ts';
import { type HaproxyExample, haproxyExample, startHaproxy } from './fixtures/support/haproxy.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';
import { assertProxyClaims } from './fixtures/support/proxy-claims.ts';
import { identityIn } from './fixtures/support/response-matchers.ts';
import { startSilentServer } from './fixtures/support/silent-server.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';

// Tests `examples/haproxy/` with other addresses, and the parts of it that matter for security.

t.setTimeout(startLimitMs);

const example = await haproxyExample();
const hostOf = (url: string) => new URL(url).host;

t.test(
  'HAProxy passes the gateway suite',
  { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('haproxy')) },
  async t => {
    await gatewaySuite(t, (t, neighbours) => startHaproxy(t, example, neighbours), {
      downStatus: 503,
      outageStatus: 503,
      // HAProxy treats a buffer full of pipelined requests as one request that is too long: it
      // answers 400 and closes.
      pipelinesAtMost: 20,
    });
  },
);

t.test('the HAProxy example', { skip: skipWithout(gatewayMissing('haproxy')) }, async t => {
  const gatecar = await startWithFakeApi({
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
    GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
  });
  t.teardown(() => gatecar.stop());
  const application = await startApplication(t);
  const token = gatecar.token();
  const behindHaproxy = async (t: Test, address: string, changes: Partial<HaproxyExample> = {}) =>
    startHaproxy(t, { ...example, ...changes }, { gatecar: address, application: hostOf(application.url) });
  /** Returns the client's status, and whether the application received the request. */
  const send = async (url: string, headers: Record<string, string> = {}) => {
    const before = application.requests.length;
    const { status } = await sendRequest(url, { path: '/', token, headers });
    return { status, reached: application.requests.length > before };
  };

  t.test("HAProxy example: calls gatecar over one connection, and sends only the client's credential", async t => {
    const counter = await startTcpCounter(t, gatecar.auth);
    const { url } = await behindHaproxy(t, hostOf(counter.url));
    const clientHeaders = {
      Cookie: 'session=1',
      'X-Original-URI': '/forged',
      'X-Original-Method': 'FORGED',
      'X-Real-IP': '192.0.2.1',
    };
    for (const headers of [{ 'content-length': '2' }, { 'transfer-encoding': 'chunked' }]) {
      for (const bearer of [token, 'garbage']) {
        const request = { method: 'PUT', path: '/zones?secret=1', body: 'ab', token: bearer };
        const { status } = await sendRequest(url, { ...request, headers: { ...headers, ...clientHeaders } });
        t.equal(status, bearer === token ? 200 : 401);
      }
    }
    // One request more than here: the first response showed that HAProxy listens.
    const requests = counter.sent.split('\r\n\r\n').slice(1, -1);
    t.equal(requests.length, 4);
    for (const request of requests) {
      const [line, ...headers] = request.split('\r\n');
      t.equal(line, 'GET /auth HTTP/1.1');
      t.strictSame(headers.map(header => header.split(':')[0]).sort(), [
        'accept',
        'authorization',
        'host',
        'user-agent',
        'x-original-method',
        'x-original-uri',
        'x-real-ip',
        'x-request-id',
      ]);
    }
    t.equal(counter.connections, 1);
    const denied = { method: 'PUT', uri: '/zones', clientAddress: '127.0.0.1' };
    const lines = gatecar.logs().filter(({ msg }) => msg === 'denied');
    t.match(lines.at(-1), { ...denied, requestId: /^[0-9a-f-]{36}$/ });
    t.match(application.requests.at(-1)?.headers['x-request-id'], /^[0-9a-f-]{36}$/);
  });

  t.test('HAProxy example: two Authorization headers are not merged into one credential', async t => {
    const { url } = await behindHaproxy(t, hostOf(gatecar.auth));
    const lines = ['GET / HTTP/1.1', 'Host: app', `Authorization: Bearer ${token}`, `Authorization: Bearer ${token}`];
    const answer = await sendRaw(url, [...lines, 'Connection: close', '', ''].join('\r\n'));
    t.match(answer, /^HTTP\/1\.1 401 /);
    t.match(answer, /x-gatecar-reason: credentials_malformed/i);
  });

  t.test('HAProxy example: a denied HEAD has no body, and the connection stays in step', async t => {
    const { url } = await behindHaproxy(t, hostOf(gatecar.auth));
    const heads = [
      'HEAD / HTTP/1.1\r\nHost: app\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nab',
    ];
    const last = `GET / HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`;
    const replies = (await sendRaw(url, [...heads, last].join(''))).split(/(?=HTTP\/1\.1 )/);
    t.strictSame(
      replies.map(answer => [answer.slice(9, 12), answer.split('\r\n\r\n')[1]]),
      [
        ['401', ''],
        ['401', '{"error":"Missing Authorization header"}'],
        ['200', 'system:serviceaccount:default:my-app'],
      ],
    );
  });

  await assertProxyClaims(t, { name: 'HAProxy', gatecar, application, token, start: behindHaproxy });

  t.test('HAProxy example: a client cannot remove an identity header by naming it in Connection', async t => {
    const { url } = await behindHaproxy(t, hostOf(gatecar.auth));
    const head = ['GET / HTTP/1.1', 'Host: app', `Authorization: Bearer ${token}`];
    const hopByHop = [...head, 'Connection: close, X-Auth-Request-User', '', ''].join('\r\n');
    t.match(await sendRaw(url, hopByHop), /^HTTP\/1\.1 200 /);
    const headers = application.requests.at(-1)?.headers;
    t.equal(headers?.['x-auth-request-user'], 'system:serviceaccount:default:my-app');
    t.notMatch(headers?.['connection'], /x-auth-request/i, 'the application receives no such name either');
  });

  t.test(
    'HAProxy example: the longest identity fits next to the longest head, and otherwise the request fails',
    async t => {
      const groups = Array.from({ length: 300 }, (_, index) => `group-of-many-${index}`);
      const standIn = await startStandIn(accepts({ user: { username: 'x', groups } }));
      const withManyGroups = await startWithFakeApi({ GATECAR_KUBE_API_URL: standIn.url });
      t.teardown(() => Promise.all([withManyGroups.stop(), standIn.close()]));
      const { url } = await behindHaproxy(t, hostOf(withManyGroups.auth));
      t.strictSame(await send(url, { 'X-Long': 'x'.repeat(22_000) }), { status: 200, reached: true });
      const identity = identityIn(application.requests.at(-1)?.rawHeaders ?? []);
      t.match(identity, { user: 'x', groups: /^group-of-many-0,.*,group-of-many-1\d\d$/, truncated: 'Groups' });
      t.strictSame(await send(url, { 'X-Long': 'x'.repeat(30_000) }), { status: 400, reached: false });

      const small = await behindHaproxy(t, hostOf(withManyGroups.auth), {
        config: example.config.replace(/^ +tune\..*\n/gm, ''),
      });
      t.strictSame(await send(small.url), { status: 200, reached: true });
      t.strictSame(await send(small.url, { 'X-Long': 'x'.repeat(13_000) }), { status: 503, reached: false });
    },
  );

  t.test('HAProxy example: no request passes if its own Lua code fails', async t => {
    const lua = replaceOnce(example.lua, 'if answer.status == 200 then', 'if answer.status == nil + 200 then');
    const { url } = await behindHaproxy(t, hostOf(gatecar.auth), { lua });
    t.strictSame(await send(url), { status: 503, reached: false });
  });

  t.test('HAProxy example: gatecar is reachable even if clients hold all connections', async t => {
    const fewConnections = example.config.replace(/^( +maxconn )(\d+)$/gm, (_, word, most) => word + Number(most) / 50);
    t.match(fewConnections, /^ +maxconn 20$/m);
    const { url } = await behindHaproxy(t, hostOf(gatecar.auth), { config: fewConnections });
    const { hostname, port } = new URL(url);
    const clients = Array.from({ length: 20 }, () => connect(Number(port), hostname).setEncoding('latin1'));
    t.teardown(() => clients.map(client => client.destroy()));
    await Promise.all(clients.map(client => once(client, 'connect')));
    for (const client of clients) {
      client.write(`GET / HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    }
    const replies = await Promise.all(clients.map(client => once(client, 'data')));
    for (const [answer] of replies) t.match(answer, /^HTTP\/1\.1 200 /);
  });

  t.test('HAProxy example: no request passes while gatecar hangs or returns an unexpected status', async t => {
    const { url } = await behindHaproxy(t, await startSilentServer(t));
    t.strictSame(await send(url), { status: 503, reached: false });
    const notFound = await behindHaproxy(t, hostOf(gatecar.ops));
    t.strictSame(await send(notFound.url), { status: 503, reached: false }, 'a 404');
  });
});
