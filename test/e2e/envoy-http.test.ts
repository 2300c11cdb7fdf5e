import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { IDENTITY_HEADERS } from '../../src/identity/identity-headers.ts';
import { ask } from '../fixtures/ask.ts';
import { startApplication } from './fixtures/support/application.ts';
import { askHttp2 } from './fixtures/support/ask-http2.ts';
import { type Cluster, startCluster } from './fixtures/support/cluster.ts';
import { ENVOY_TRAITS, envoyExample, startEnvoy, validateEnvoy } from './fixtures/support/envoy.ts';
import { envoyClaims } from './fixtures/support/envoy-claims.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { nobodyForges, told } from './fixtures/support/gateway-forgeries.ts';
import { gatewaySuite, listening, newNeighbours, ODD_PATHS } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';
import { serviceAccountIdentity } from './fixtures/support/response-matchers.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';

// `examples/envoy-http/envoy.yaml`, addresses aside.

const skip = skipWithout(kubeApiServerMissing() ?? gatewayMissing('envoy'));
const config = await envoyExample('envoy-http');

t.setTimeout(startLimitMs);

t.test('Envoy, asking over HTTP', { skip }, async t => {
  const cluster = await startCluster(t);
  t.test('does what any gateway does', async t => {
    await gatewaySuite(t, (t, neighbours) => startEnvoy(t, config, neighbours), ENVOY_TRAITS, cluster);
  });
  t.test('and what its example says', t => itself(t, cluster));
});

async function itself(t: Test, { api, settings }: Cluster): Promise<void> {
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

  t.test('Envoy has nothing against it', async t => {
    t.equal(await validateEnvoy(config), "configuration 'envoy.yaml' OK");
    t.match(
      await validateEnvoy(replaceOnce(config, 'failure_mode_allow', 'failure_mode')),
      /error initializing configuration/,
    );
  });

  t.test('gatecar is asked with the original method and path, over one connection', async t => {
    const agent = new Agent({ keepAlive: true });
    t.teardown(() => agent.destroy());
    const before = counter.connections;
    for (const method of ['GET', 'POST', 'PATCH', 'OPTIONS', 'PROPFIND']) {
      const body = { headers: { 'content-length': '2' }, body: 'ab' };
      t.equal(
        (await ask(url, { method, path: `/${method}?a=b`, ...(method === 'POST' && body), token, agent })).status,
        200,
      );
      t.match(counter.sent, new RegExp(`^${method} /auth/${method}\\?a=b HTTP/1\\.1\r$`, 'm'));
    }
    t.ok(counter.connections - before <= 1);
  });

  await envoyClaims(t, {
    ...{ url, gatecar, application, token },
    forged: { 'X-Original-URI': '/forged', 'X-Original-Method': 'FORGED', 'X-Real-IP': '192.0.2.1' },
  });

  t.test('HTTP/2 is no way around', async t => {
    const authorization = `Bearer ${token}`;
    const forged = Object.fromEntries(
      IDENTITY_HEADERS.map(name => [`x-auth-request-${name.toLowerCase()}`, ['forged', 'forged']]),
    );
    const body = 'x'.repeat(10_240);
    const passed = await askHttp2(url, { ':path': '/h2', ':method': 'POST', authorization, ...forged }, body);
    t.strictSame(passed, { status: 200, body: 'system:serviceaccount:apps:web' });
    const received = application.requests.at(-1);
    t.match(received, { method: 'POST', url: '/h2', body });
    t.notMatch(received?.rawHeaders.join(), /forged/);
    t.strictSame(told(received), serviceAccountIdentity('apps', 'web', uid, token));
    const before = application.requests.length;
    t.match(await askHttp2(url, { ':path': '/' }), { status: 401 });
    t.match(await askHttp2(url, { ':path': '/', authorization: 'Bearer garbage' }), { status: 401 });
    await t.rejects(askHttp2(url, { ':path': '/', authorization, x_auth_request_user: 'forged' }), 'a reset stream');
    t.equal(application.requests.length, before);
  });

  t.test('a path that Envoy leaves as it is gets its result too', async t => {
    let raw = replaceOnce(config, 'normalize_path: true', 'normalize_path: false');
    raw = replaceOnce(raw, 'merge_slashes: true', 'merge_slashes: false');
    raw = replaceOnce(raw, 'REJECT_REQUEST\n\n                # `X_', 'KEEP_UNCHANGED\n\n                # `X_');
    const envoy = await startEnvoy(t, raw, counted);
    for (const path of ODD_PATHS.filter(path => path !== '/%00')) {
      t.equal((await ask(envoy.url, { path, token })).status, 200, path);
      t.equal(application.requests.at(-1)?.url, path);
      t.ok(counter.sent.includes(`GET /auth${path} HTTP/1.1\r\n`), path);
      t.equal((await ask(envoy.url, { path })).status, 401, path);
    }
  });

  t.test('what gatecar sends is enough to replace every identity header, and the removal comes on top', async t => {
    const client = 'prefix: x-auth-request-, ignore_case: true';
    const envoy = await startEnvoy(t, replaceOnce(config, client, 'exact: x-nothing'), counted);
    const identity = serviceAccountIdentity('apps', 'web', uid, token);
    await nobodyForges(t, { url: envoy.url, application, traits: ENVOY_TRAITS, token, identity });
  });

  t.test('an outage is a 503 that says so, and when to come back', async t => {
    const stranger = await api.requestToken('apps', 'web', { audiences: ['bindcar'] });
    await api.down();
    const reply = await ask(url, { token: stranger });
    t.match(reply, { status: 503, headers: { 'retry-after': '1', 'cache-control': 'no-store' } });
    t.strictSame(JSON.parse(reply.body), { error: 'authorization is unavailable' });
    // Why the example says what it says: to Envoy a 5xx over HTTP is no denial.
    const open = await startEnvoy(
      t,
      replaceOnce(config, 'failure_mode_allow: false', 'failure_mode_allow: true'),
      counted,
    );
    t.equal((await ask(open.url, { token: stranger })).status, 200);
  });

  t.test('a gatecar that hangs is none', async t => {
    const envoy = await startEnvoy(t, replaceOnce(config, 'timeout: 5s', 'timeout: 0.3s'), counted);
    gatecar.signal('SIGSTOP');
    const before = application.requests.length;
    try {
      t.match(await ask(envoy.url, { token }), { status: 503, headers: { 'retry-after': '1' } });
    } finally {
      gatecar.signal('SIGCONT');
    }
    t.equal((await ask(envoy.url, { token })).status, 200);
    t.equal(application.requests.length, before + 1);
  });

  t.test('what the application itself answers passes as it is, its 503 too', async t => {
    for (const status of [500, 503, 401, 404]) {
      application.status = status;
      t.match(await ask(url, { token }), { status, body: 'system:serviceaccount:apps:web' });
    }
    application.status = 200;
  });
}
