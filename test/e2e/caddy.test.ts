import t, { type Test } from 'tap';
import { IDENTITY_HEADERS } from '../../src/identity/identity-headers.ts';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { sendRaw, sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { caddyExample, startCaddy } from './fixtures/support/caddy.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { gatewaySuite } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { assertProxyClaims } from './fixtures/support/proxy-claims.ts';
import { startSilentServer } from './fixtures/support/silent-server.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';
import { requestUpgrade } from './fixtures/support/upgrade-echo.ts';

// Tests `examples/caddy/Caddyfile` with other addresses, and the parts of it that matter for
// security.

t.setTimeout(startLimitMs);

const config = await caddyExample();
const hostOf = (url: string) => new URL(url).host;

t.test(
  'Caddy passes the gateway suite',
  { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('caddy')) },
  async t => {
    await gatewaySuite(t, (t, neighbours) => startCaddy(t, config, neighbours), {
      // forward_auth is a reverse proxy, and its upstream is down.
      downStatus: 502,
      outageStatus: 503,
      // Go rejects the path: invalid percent-encoding.
      rejectedPaths: ['/%zz'],
    });
  },
);

t.test('the Caddy example', { skip: skipWithout(gatewayMissing('caddy')) }, async t => {
  const gatecar = await startWithFakeApi({
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
    GATECAR_CLIENT_IP_HEADER: 'X-Forwarded-For',
  });
  t.teardown(() => gatecar.stop());
  const application = await startApplication(t);
  const token = gatecar.token();
  const behindCaddy = async (t: Test, address: string) =>
    startCaddy(t, config, { gatecar: address, application: hostOf(application.url) });

  t.test('Caddy example: every identity header is copied', async t => {
    const [, copied = ''] = /copy_headers \{([^}]*)\}/.exec(config) ?? [];
    t.strictSame(copied.trim().split(/\s+/).sort(), IDENTITY_HEADERS.map(name => `X-Auth-Request-${name}`).sort());
  });

  t.test(
    'Caddy example: calls gatecar over one connection, without body or query, and passes the original request',
    async t => {
      const counter = await startTcpCounter(t, gatecar.auth);
      const { url } = await behindCaddy(t, hostOf(counter.url));
      const clientHeaders = {
        'X-Original-URI': '/forged',
        'X-Original-Method': 'FORGED',
        'X-Forwarded-For': '192.0.2.1',
      };
      for (const headers of [{ 'content-length': '2', expect: '100-continue' }, { 'transfer-encoding': 'chunked' }]) {
        for (const bearer of [token, 'garbage']) {
          const request = { method: 'PUT', path: '/zones?secret=1', body: 'ab', token: bearer };
          const { status } = await sendRequest(url, { ...request, headers: { ...headers, ...clientHeaders } });
          t.equal(status, bearer === token ? 200 : 401);
        }
      }
      t.match(await requestUpgrade(url, { token, text: 'to and fro' }), { status: 101, text: 'to and fro' });
      // One request more than here: the first response showed that Caddy listens.
      const requests = counter.sent.split('\r\n\r\n').slice(1, -1);
      t.equal(requests.length, 5);
      for (const request of requests) {
        t.match(request, /^GET \/auth HTTP\/1\.1\r\n/);
        t.notMatch(request, /^(content-length|transfer-encoding|expect|connection|upgrade|x-original-.*):/im);
      }
      t.equal(counter.connections, 1);
      const denied = { method: 'PUT', uri: '/zones', clientAddress: '127.0.0.1' };
      const lines = gatecar.logs().filter(({ msg }) => msg === 'denied');
      t.match(lines.at(-1), { ...denied, requestId: /^[0-9a-f-]{36}$/ });
      t.match(application.requests.at(-1)?.headers['x-request-id'], /^[0-9a-f-]{36}$/);
    },
  );

  await assertProxyClaims(t, { name: 'Caddy', gatecar, application, token, start: behindCaddy });

  t.test('Caddy example: trailers are dropped, whatever their names', async t => {
    const { url } = await behindCaddy(t, hostOf(gatecar.auth));
    const head = [
      'POST / HTTP/1.1',
      'Host: app',
      `Authorization: Bearer ${token}`,
      'Connection: close',
      'TE: trailers',
    ];
    const framing = ['Transfer-Encoding: chunked', 'Trailer: X-Auth-Request-Pod', ''];
    const body = ['2', 'ab', '0', 'X-Auth-Request-Pod: forged', 'X-Auth-Request-User: forged', '', ''];
    t.match(await sendRaw(url, [...head, ...framing, ...body].join('\r\n')), /^HTTP\/1\.1 200 /);
    t.notMatch(JSON.stringify(application.requests.at(-1)), /forged/);
  });

  t.test('Caddy example: no request passes while gatecar hangs', async t => {
    const { url } = await behindCaddy(t, await startSilentServer(t));
    const before = application.requests.length;
    t.match(await sendRequest(url, { path: '/', token }), { status: 504 });
    t.equal(application.requests.length, before);
  });
});
