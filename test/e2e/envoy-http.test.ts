import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { IDENTITY_HEADERS } from '../../src/identity/identity-headers.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { type Cluster, startCluster } from './fixtures/support/cluster.ts';
import { ENVOY_TRAITS, envoyExample, startEnvoy, validateEnvoy } from './fixtures/support/envoy.ts';
import { assertEnvoyClaims } from './fixtures/support/envoy-claims.ts';
import { assertNoForgedIdentity, identityOf } from './fixtures/support/forged-identity.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { gatewaySuite, listening, newNeighbours, ODD_PATHS } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';
import { serviceAccountIdentity } from './fixtures/support/response-matchers.ts';
import { sendHttp2 } from './fixtures/support/send-http2.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';

// Tests `examples/envoy-http/envoy.yaml` with other addresses.

const skip = skipWithout(kubeApiServerMissing() ?? gatewayMissing('envoy'));
const config = await envoyExample('envoy-http');

t.setTimeout(startLimitMs);

t.test('Envoy over HTTP', { skip }, async t => {
  const cluster = await startCluster(t);
  t.test('Envoy over HTTP passes the gateway suite', async t => {
    await gatewaySuite(t, (t, neighbours) => startEnvoy(t, config, neighbours), ENVOY_TRAITS, cluster);
  });
  t.test('Envoy over HTTP behaves as its example says', t => testExample(t, cluster));
});

async function testExample(t: Test, { api, settings }: Cluster): Promise<void> {
  const { uid } = await api.createServiceAccount('apps', 'web');
  const token = await api.requestToken('apps', 'web', { audiences: ['bindcar'] });
  const application = await startApplication(t);
  const neighbours = await newNeighbours(application);
  const gatecar = await startGatecar(t, {
    ...settings,
    ...listening(neighbours),
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
    GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
  });
  const counter = await startTcpCounter(t, gatecar.auth);
  const counted = { ...neighbours, gatecar: new URL(counter.url).host };
  const { url } = await startEnvoy(t, config, counted);

  t.test('Envoy accepts the HTTP example', async t => {
    t.equal(await validateEnvoy(config), "configuration 'envoy.yaml' OK");
    t.match(
      await validateEnvoy(replaceOnce(config, 'failure_mode_allow', 'failure_mode')),
      /error initializing configuration/,
    );
  });

  t.test('Envoy sends gatecar the original method and path over one connection', async t => {
    const agent = new Agent({ keepAlive: true });
    t.teardown(() => agent.destroy());
    const before = counter.connections;
    for (const method of ['GET', 'POST', 'PATCH', 'OPTIONS', 'PROPFIND']) {
      const body = { headers: { 'content-length': '2' }, body: 'ab' };
      t.equal(
        (await sendRequest(url, { method, path: `/${method}?a=b`, ...(method === 'POST' && body), token, agent }))
          .status,
        200,
      );
      t.match(counter.sent, new RegExp(`^${method} /auth/${method}\\?a=b HTTP/1\\.1\r$`, 'm'));
    }
    t.ok(counter.connections - before <= 1);
  });

  await assertEnvoyClaims(t, { protocol: 'HTTP', url, gatecar, application, token });

  t.test('HTTP/2 does not bypass gatecar', async t => {
    const authorization = `Bearer ${token}`;
    const clientHeaders = Object.fromEntries(
      IDENTITY_HEADERS.map(name => [`x-auth-request-${name.toLowerCase()}`, ['forged', 'forged']]),
    );
    const body = 'x'.repeat(10_240);
    const passed = await sendHttp2(url, { ':path': '/h2', ':method': 'POST', authorization, ...clientHeaders }, body);
    t.strictSame(passed, { status: 200, body: 'system:serviceaccount:apps:web' });
    const received = application.requests.at(-1);
    t.match(received, { method: 'POST', url: '/h2', body });
    t.notMatch(received?.rawHeaders.join(), /forged/);
    t.strictSame(identityOf(received), serviceAccountIdentity('apps', 'web', uid, token));
    const before = application.requests.length;
    t.match(await sendHttp2(url, { ':path': '/' }), { status: 401 });
    t.match(await sendHttp2(url, { ':path': '/', authorization: 'Bearer garbage' }), { status: 401 });
    await t.rejects(
      sendHttp2(url, { ':path': '/', authorization, x_auth_request_user: 'forged' }),
      'the stream is reset',
    );
    t.equal(application.requests.length, before);
  });

  t.test('a path that Envoy does not normalise gets its result too', async t => {
    let unnormalised = replaceOnce(config, 'normalize_path: true', 'normalize_path: false');
    unnormalised = replaceOnce(unnormalised, 'merge_slashes: true', 'merge_slashes: false');
    unnormalised = replaceOnce(
      unnormalised,
      'path_with_escaped_slashes_action: REJECT_REQUEST',
      'path_with_escaped_slashes_action: KEEP_UNCHANGED',
    );
    const envoy = await startEnvoy(t, unnormalised, counted);
    for (const path of ODD_PATHS.filter(path => path !== '/%00')) {
      t.equal((await sendRequest(envoy.url, { path, token })).status, 200, path);
      t.equal(application.requests.at(-1)?.url, path);
      t.ok(counter.sent.includes(`GET /auth${path} HTTP/1.1\r\n`), path);
      t.equal((await sendRequest(envoy.url, { path })).status, 401, path);
    }
  });

  t.test('gatecar’s response alone replaces every identity header, without the removal in Envoy', async t => {
    const client = 'prefix: x-auth-request-, ignore_case: true';
    const envoy = await startEnvoy(t, replaceOnce(config, client, 'exact: x-nothing'), counted);
    const identity = serviceAccountIdentity('apps', 'web', uid, token);
    await assertNoForgedIdentity(t, { url: envoy.url, application, traits: ENVOY_TRAITS, token, identity });
  });

  t.test('an outage is a 503 with Retry-After from Envoy', async t => {
    const uncachedToken = await api.requestToken('apps', 'web', { audiences: ['bindcar'] });
    await api.down();
    const reply = await sendRequest(url, { token: uncachedToken });
    t.match(reply, { status: 503, headers: { 'retry-after': '1', 'cache-control': 'no-store' } });
    t.strictSame(JSON.parse(reply.body), { error: 'authorization is unavailable' });
    // Why the example has this setting: for Envoy a 5xx over HTTP is not a denial.
    const open = await startEnvoy(
      t,
      replaceOnce(config, 'failure_mode_allow: false', 'failure_mode_allow: true'),
      counted,
    );
    t.equal((await sendRequest(open.url, { token: uncachedToken })).status, 200);
  });

  t.test('a gatecar that hangs is a 503 from Envoy', async t => {
    const envoy = await startEnvoy(t, replaceOnce(config, 'timeout: 5s', 'timeout: 0.3s'), counted);
    gatecar.signal('SIGSTOP');
    const before = application.requests.length;
    try {
      t.match(await sendRequest(envoy.url, { token }), { status: 503, headers: { 'retry-after': '1' } });
    } finally {
      gatecar.signal('SIGCONT');
    }
    t.equal((await sendRequest(envoy.url, { token })).status, 200);
    t.equal(application.requests.length, before + 1);
  });

  t.test('responses of the application pass through Envoy unchanged, including its 503', async t => {
    for (const status of [500, 503, 401, 404]) {
      application.status = status;
      t.match(await sendRequest(url, { token }), { status, body: 'system:serviceaccount:apps:web' });
    }
    application.status = 200;
  });
}
