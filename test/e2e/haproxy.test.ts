import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { ask, askRaw } from '../fixtures/ask.ts';
import { startGate } from '../fixtures/gatecar.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { startApplication } from './fixtures/support/application.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { gatewaySuite } from './fixtures/support/gateway-suite.ts';
import { type HaproxyExample, haproxyExample, startHaproxy } from './fixtures/support/haproxy.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';
import { passesOnlyWhatGatecarSays } from './fixtures/support/proxy-claims.ts';
import { identityIn } from './fixtures/support/response-matchers.ts';
import { startSilentServer } from './fixtures/support/silent-server.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';

// `examples/haproxy/`, addresses aside, and what of it must not be changed.

t.setTimeout(startLimitMs);

const example = await haproxyExample();
const hostOf = (url: string) => new URL(url).host;

t.test('HAProxy', { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('haproxy')) }, async t => {
  await gatewaySuite(t, (t, neighbours) => startHaproxy(t, example, neighbours), {
    downStatus: 503,
    outageStatus: 503,
    // HAProxy takes a buffer that is full of further requests for one request that is too long: 400, and closed.
    pipelinesAtMost: 20,
  });
});

t.test('the example for HAProxy', { skip: skipWithout(gatewayMissing('haproxy')) }, async t => {
  const gate = await startGate({ GATECAR_TRUSTED_PROXIES: '127.0.0.1', GATECAR_CLIENT_IP_HEADER: 'X-Real-IP' });
  t.teardown(() => gate.stop());
  const application = await startApplication(t);
  const token = gate.token();
  const behindHaproxy = async (t: Test, gatecar: string, changed: Partial<HaproxyExample> = {}) =>
    startHaproxy(t, { ...example, ...changed }, { gatecar, application: hostOf(application.url) });
  /** What the client gets, and whether the application heard of it. */
  const answered = async (url: string, headers: Record<string, string> = {}) => {
    const before = application.requests.length;
    const { status } = await ask(url, { path: '/', token, headers });
    return { status, heard: application.requests.length > before };
  };

  t.test('asks over one connection, and sends nothing of the client but its credential', async t => {
    const counter = await startTcpCounter(t, gate.auth);
    const { url } = await behindHaproxy(t, hostOf(counter.url));
    const own = {
      Cookie: 'session=1',
      'X-Original-URI': '/forged',
      'X-Original-Method': 'FORGED',
      'X-Real-IP': '192.0.2.1',
    };
    for (const headers of [{ 'content-length': '2' }, { 'transfer-encoding': 'chunked' }]) {
      for (const asked of [token, 'garbage']) {
        const question = { method: 'PUT', path: '/zones?secret=1', body: 'ab', token: asked };
        const { status } = await ask(url, { ...question, headers: { ...headers, ...own } });
        t.equal(status, asked === token ? 200 : 401);
      }
    }
    // One more than here: HAProxy answered something before, to show that it listens.
    const questions = counter.sent.split('\r\n\r\n').slice(1, -1);
    t.equal(questions.length, 4);
    for (const question of questions) {
      const [line, ...headers] = question.split('\r\n');
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
    const lines = gate.logs().filter(({ msg }) => msg === 'denied');
    t.match(lines.at(-1), { ...denied, requestId: /^[0-9a-f-]{36}$/ });
    t.match(application.requests.at(-1)?.headers['x-request-id'], /^[0-9a-f-]{36}$/);
  });

  t.test('does not make one credential of two', async t => {
    const { url } = await behindHaproxy(t, hostOf(gate.auth));
    const lines = ['GET / HTTP/1.1', 'Host: app', `Authorization: Bearer ${token}`, `Authorization: Bearer ${token}`];
    const answer = await askRaw(url, [...lines, 'Connection: close', '', ''].join('\r\n'));
    t.match(answer, /^HTTP\/1\.1 401 /);
    t.match(answer, /x-gatecar-reason: credentials_malformed/i);
  });

  t.test('answers a denied HEAD without a body, and the next request on that connection is the next', async t => {
    const { url } = await behindHaproxy(t, hostOf(gate.auth));
    const heads = [
      'HEAD / HTTP/1.1\r\nHost: app\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nab',
    ];
    const last = `GET / HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`;
    const replies = (await askRaw(url, [...heads, last].join(''))).split(/(?=HTTP\/1\.1 )/);
    t.strictSame(
      replies.map(answer => [answer.slice(9, 12), answer.split('\r\n\r\n')[1]]),
      [
        ['401', ''],
        ['401', '{"error":"Missing Authorization header"}'],
        ['200', 'system:serviceaccount:default:my-app'],
      ],
    );
  });

  await passesOnlyWhatGatecarSays(t, { gate, application, token, start: behindHaproxy });

  t.test('a client that names an identity header in Connection does not remove it downstream', async t => {
    const { url } = await behindHaproxy(t, hostOf(gate.auth));
    const head = ['GET / HTTP/1.1', 'Host: app', `Authorization: Bearer ${token}`, 'X-Auth-Request-Email: forged'];
    const hopByHop = [...head, 'Connection: close, X-Auth-Request-User', '', ''].join('\r\n');
    t.match(await askRaw(url, hopByHop), /^HTTP\/1\.1 200 /);
    t.notMatch(application.requests.at(-1)?.headers['connection'], /x-auth-request/i, 'nor to whom comes next');
  });

  t.test('has room for the longest identity beside the longest head, and says no where there is none', async t => {
    const groups = Array.from({ length: 300 }, (_, at) => `group-of-many-${at}`);
    const standIn = await startStandIn(accepts({ user: { username: 'x', groups } }));
    const crowded = await startGate({ GATECAR_KUBE_API_URL: standIn.url });
    t.teardown(() => Promise.all([crowded.stop(), standIn.close()]));
    const { url } = await behindHaproxy(t, hostOf(crowded.auth));
    t.strictSame(await answered(url, { 'X-Long': 'x'.repeat(22_000) }), { status: 200, heard: true });
    const told = identityIn(application.requests.at(-1)?.rawHeaders ?? []);
    t.match(told, { user: 'x', groups: /^group-of-many-0,.*,group-of-many-1\d\d$/, truncated: 'Groups' });
    t.strictSame(await answered(url, { 'X-Long': 'x'.repeat(30_000) }), { status: 400, heard: false });

    const small = await behindHaproxy(t, hostOf(crowded.auth), {
      config: example.config.replace(/^ +tune\..*\n/gm, ''),
    });
    t.strictSame(await answered(small.url), { status: 200, heard: true });
    t.strictSame(await answered(small.url, { 'X-Long': 'x'.repeat(13_000) }), { status: 503, heard: false });
  });

  t.test('lets nobody pass where its own lines fail', async t => {
    const lua = replaceOnce(example.lua, 'if answer.status == 200 then', 'if answer.status == nil + 200 then');
    const { url } = await behindHaproxy(t, hostOf(gate.auth), { lua });
    t.strictSame(await answered(url), { status: 503, heard: false });
  });

  t.test('can ask also when clients hold all the connections they can have', async t => {
    const fiftieth = example.config.replace(/^( +maxconn )(\d+)$/gm, (_, word, most) => word + Number(most) / 50);
    t.match(fiftieth, /^ +maxconn 20$/m);
    const { url } = await behindHaproxy(t, hostOf(gate.auth), { config: fiftieth });
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

  t.test('lets nobody pass while gatecar hangs, or answers what it never would', async t => {
    const { url } = await behindHaproxy(t, await startSilentServer(t));
    t.strictSame(await answered(url), { status: 503, heard: false });
    const other = await behindHaproxy(t, hostOf(gate.ops));
    t.strictSame(await answered(other.url), { status: 503, heard: false }, 'a 404');
  });
});
