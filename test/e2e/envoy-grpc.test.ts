import t, { type Test } from 'tap';
import { ask } from '../fixtures/ask.ts';
import { envoyClient } from '../fixtures/envoy-client.ts';
import { startApplication } from './fixtures/support/application.ts';
import { type Cluster, reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { ENVOY_TRAITS, envoyExample, startEnvoy, validateEnvoy } from './fixtures/support/envoy.ts';
import { envoyClaims } from './fixtures/support/envoy-claims.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { gatewaySuite, listening, newNeighbours } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';

// `examples/envoy-grpc/envoy.yaml`, addresses aside.

const skip = skipWithout(kubeApiServerMissing() ?? gatewayMissing('envoy'));
const config = await envoyExample('envoy-grpc');
const merged = replaceOnce(config, 'encode_raw_headers: true', 'encode_raw_headers: false');
const failsOpen = replaceOnce(config, 'failure_mode_allow: false', 'failure_mode_allow: true');
const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('Envoy, asking over gRPC', { skip }, async t => {
  const cluster = await startCluster(t);
  t.test('does what any gateway does', async t => {
    await gatewaySuite(t, (t, neighbours) => startEnvoy(t, config, neighbours), ENVOY_TRAITS, cluster);
  });
  t.test('also where it merges headers before it asks', async t => {
    await gatewaySuite(t, (t, neighbours) => startEnvoy(t, merged, neighbours), ENVOY_TRAITS, cluster);
  });
  t.test('and what its example says', t => itself(t, cluster));
});

async function itself(t: Test, { api, settings }: Cluster): Promise<void> {
  await api.createServiceAccount('apps', 'web');
  const newToken = () => api.requestToken('apps', 'web', { audiences });
  const token = await newToken();
  const application = await startApplication(t);
  const neighbours = await newNeighbours(application);
  const reviewTimeoutMs = 2_000;
  const gatecar = await startGatecar(t, {
    ...settings,
    ...listening(neighbours),
    GATECAR_REVIEW_TIMEOUT: `${reviewTimeoutMs}ms`,
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
  });
  const { url } = await startEnvoy(t, config, neighbours);

  t.test('Envoy has nothing against it', async t => {
    t.equal(await validateEnvoy(config), "configuration 'envoy.yaml' OK");
  });

  t.test('256 checks over gRPC and 256 requests over HTTP with one new token are one review', async t => {
    const client = envoyClient(neighbours.grpc);
    t.teardown(() => client.close());
    const fresh = await newToken();
    const reviews = await reviewsDuring(api, async () => {
      const both = Array.from({ length: 256 }, () => [
        client.checkHeaders({ authorization: `Bearer ${fresh}` }).then(({ status }) => status.code),
        ask(gatecar.auth, { token: fresh }).then(({ status }) => status),
      ]);
      t.strictSame(await Promise.all(both.flat()), Array(256).fill([0, 200]).flat());
    });
    t.equal(reviews, 1);
    const { body } = await ask(gatecar.ops, { path: '/metrics' });
    t.match(body, /^gatecar_requests_total\{protocol="grpc",decision="allow",reason=""\} (25[6-9]|2[6-9]\d)$/m);
    t.match(body, /^gatecar_requests_total\{protocol="http",decision="allow",reason=""\} 256$/m);
  });

  await envoyClaims(t, { url, gatecar, application, token });

  t.test(
    'an API server that hangs is a denial, also to an Envoy that has less time and would let everybody in',
    async t => {
      const hurried = replaceOnce(failsOpen, 'timeout: 5s', 'timeout: 0.3s');
      const envoys = [await startEnvoy(t, failsOpen, neighbours), await startEnvoy(t, hurried, neighbours)];
      const strangers = [await newToken(), await newToken()];
      await api.pause();
      const before = application.requests.length;
      for (const [at, envoy] of envoys.entries()) {
        const reply = await ask(envoy.url, { token: strangers[at] ?? '' });
        t.match(reply, {
          status: 503,
          headers: { 'x-gatecar-reason': 'authority_unavailable', 'retry-after': /^\d+$/ },
        });
        t.strictSame(JSON.parse(reply.body), { error: 'TokenReview API call failed: timeout' });
      }
      t.equal(application.requests.length, before);
      api.resume();
    },
  );

  t.test('and so is one that is gone', async t => {
    const open = await startEnvoy(t, failsOpen, neighbours);
    const stranger = await newToken();
    await api.down();
    const before = application.requests.length;
    for (const base of [url, open.url]) {
      const reply = await ask(base, { token: stranger });
      t.match(reply, { status: 503, headers: { 'x-gatecar-reason': 'authority_unavailable', 'retry-after': /^\d+$/ } });
    }
    t.equal(application.requests.length, before);
  });

  t.test('a gatecar that hangs or is gone is a 503 that says when to come back', async t => {
    const envoy = await startEnvoy(t, replaceOnce(config, 'timeout: 5s', 'timeout: 0.3s'), neighbours);
    const before = application.requests.length;
    gatecar.signal('SIGSTOP');
    t.match(await ask(envoy.url, { token }), {
      status: 503,
      headers: { 'retry-after': '1', 'cache-control': 'no-store' },
    });
    gatecar.signal('SIGKILL');
    await gatecar.end();
    t.match(await ask(envoy.url, { token }), { status: 503, headers: { 'retry-after': '1' } });
    t.equal(application.requests.length, before);
  });
}
