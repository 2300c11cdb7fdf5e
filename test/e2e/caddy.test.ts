import t, { type Test } from 'tap';
import { IDENTITY_HEADERS } from '../../src/identity/identity-headers.ts';
import { ask, askRaw } from '../fixtures/ask.ts';
import { startGate } from '../fixtures/gatecar.ts';
import { startApplication } from './fixtures/support/application.ts';
import { caddyExample, startCaddy } from './fixtures/support/caddy.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { gatewaySuite } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { passesOnlyWhatGatecarSays } from './fixtures/support/proxy-claims.ts';
import { startSilentServer } from './fixtures/support/silent-server.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';
import { askUpgrade } from './fixtures/support/upgrade-echo.ts';

// `examples/caddy/Caddyfile`, addresses aside, and what of it must not be changed.

t.setTimeout(startLimitMs);

const config = await caddyExample();
const hostOf = (url: string) => new URL(url).host;

t.test('Caddy', { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('caddy')) }, async t => {
  await gatewaySuite(t, (t, neighbours) => startCaddy(t, config, neighbours), {
    // forward_auth is a reverse proxy whose upstream is gone.
    downStatus: 502,
    outageStatus: 503,
    // Not a valid path for Go: no percent-encoding.
    refusedPaths: ['/%zz'],
  });
});

t.test('the example for Caddy', { skip: skipWithout(gatewayMissing('caddy')) }, async t => {
  const gate = await startGate({ GATECAR_TRUSTED_PROXIES: '127.0.0.1', GATECAR_CLIENT_IP_HEADER: 'X-Forwarded-For' });
  t.teardown(() => gate.stop());
  const application = await startApplication(t);
  const token = gate.token();
  const behindCaddy = async (t: Test, gatecar: string) =>
    startCaddy(t, config, { gatecar, application: hostOf(application.url) });

  t.test('names each identity header there is', async t => {
    const [, copied = ''] = /copy_headers \{([^}]*)\}/.exec(config) ?? [];
    t.strictSame(copied.trim().split(/\s+/).sort(), IDENTITY_HEADERS.map(name => `X-Auth-Request-${name}`).sort());
  });

  t.test('asks over one connection, without body or query, and says what was asked for', async t => {
    const counter = await startTcpCounter(t, gate.auth);
    const { url } = await behindCaddy(t, hostOf(counter.url));
    const forged = { 'X-Original-URI': '/forged', 'X-Original-Method': 'FORGED', 'X-Forwarded-For': '192.0.2.1' };
    for (const headers of [{ 'content-length': '2', expect: '100-continue' }, { 'transfer-encoding': 'chunked' }]) {
      for (const asked of [token, 'garbage']) {
        const question = { method: 'PUT', path: '/zones?secret=1', body: 'ab', token: asked };
        const { status } = await ask(url, { ...question, headers: { ...headers, ...forged } });
        t.equal(status, asked === token ? 200 : 401);
      }
    }
    t.match(await askUpgrade(url, { token, text: 'to and fro' }), { status: 101, text: 'to and fro' });
    // One more than here: Caddy answered something before, to show that it listens.
    const questions = counter.sent.split('\r\n\r\n').slice(1, -1);
    t.equal(questions.length, 5);
    for (const question of questions) {
      t.match(question, /^GET \/auth HTTP\/1\.1\r\n/);
      t.notMatch(question, /^(content-length|transfer-encoding|expect|connection|upgrade|x-original-.*):/im);
    }
    t.equal(counter.connections, 1);
    const denied = { method: 'PUT', uri: '/zones', clientAddress: '127.0.0.1' };
    const lines = gate.logs().filter(({ msg }) => msg === 'denied');
    t.match(lines.at(-1), { ...denied, requestId: /^[0-9a-f-]{36}$/ });
    t.match(application.requests.at(-1)?.headers['x-request-id'], /^[0-9a-f-]{36}$/);
  });

  await passesOnlyWhatGatecarSays(t, { gate, application, token, start: behindCaddy });

  t.test('leaves trailers out, whatever they are called', async t => {
    const { url } = await behindCaddy(t, hostOf(gate.auth));
    const head = [
      'POST / HTTP/1.1',
      'Host: app',
      `Authorization: Bearer ${token}`,
      'Connection: close',
      'TE: trailers',
    ];
    const framing = ['Transfer-Encoding: chunked', 'Trailer: X-Auth-Request-Pod', ''];
    const body = ['2', 'ab', '0', 'X-Auth-Request-Pod: forged', 'X-Auth-Request-User: forged', '', ''];
    t.match(await askRaw(url, [...head, ...framing, ...body].join('\r\n')), /^HTTP\/1\.1 200 /);
    t.notMatch(JSON.stringify(application.requests.at(-1)), /forged/);
  });

  t.test('lets nobody pass while gatecar hangs', async t => {
    const { url } = await behindCaddy(t, await startSilentServer(t));
    const before = application.requests.length;
    t.match(await ask(url, { path: '/', token }), { status: 504 });
    t.equal(application.requests.length, before);
  });
});
