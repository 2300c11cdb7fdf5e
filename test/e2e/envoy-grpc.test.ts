import t, { type Test } from 'tap';
import { envoyClient } from '../fixtures/envoy-client.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { type Cluster, reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { ENVOY_TRAITS, envoyExample, startEnvoy, validateEnvoy } from './fixtures/support/envoy.ts';
import { assertEnvoyClaims } from './fixtures/support/envoy-claims.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { gatewaySuite, listening, newNeighbours } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';

// Tests `examples/envoy-grpc/envoy.yaml` with other addresses.

const skip = skipWithout(kubeApiServerMissing() ?? gatewayMissing('envoy'));
const config = await envoyExample('envoy-grpc');
const merged = replaceOnce(config, 'encode_raw_headers: true', 'encode_raw_headers: false');
const failsOpen = replaceOnce(config, 'failure_mode_allow: false', 'failure_mode_allow: true');
const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('Envoy over gRPC', { skip }, async t => {
  const cluster = await startCluster(t);
  t.test('Envoy over gRPC passes the gateway suite', async t => {
    await gatewaySuite(t, (t, neighbours) => startEnvoy(t, config, neighbours), ENVOY_TRAITS, cluster);
  });
  t.test('Envoy over gRPC passes the gateway suite if it merges headers', async t => {
    await gatewaySuite(t, (t, neighbours) => startEnvoy(t, merged, neighbours), ENVOY_TRAITS, cluster);
  });
  t.test('Envoy over gRPC behaves as its example says', t => testExample(t, cluster));
});

async function testExample(t: Test, { api, settings }: Cluster): Promise<void> {
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

  t.test('Envoy accepts the gRPC example', async t => {
    t.equal(await validateEnvoy(config), "configuration 'envoy.yaml' OK");
  });

  t.test('256 checks over gRPC and 256 requests over HTTP with one new token cost one review', async t => {
    const client = envoyClient(neighbours.grpc);
    t.teardown(() => client.close());
    const bearer = await newToken();
    const reviews = await reviewsDuring(api, async () => {
      const both = Array.from({ length: 256 }, () => [
        client.checkHeaders({ authorization: `Bearer ${bearer}` }).then(({ status }) => status.code),
        sendRequest(gatecar.auth, { token: bearer }).then(({ status }) => status),
      ]);
      t.strictSame(await Promise.all(both.flat()), Array(256).fill([0, 200]).flat());
    });
    t.equal(reviews, 1);
    const { body } = await sendRequest(gatecar.ops, { path: '/metrics' });
    t.match(body, /^gatecar_requests_total\{protocol="grpc",decision="allow",reason=""\} (25[6-9]|2[6-9]\d)$/m);
    t.match(body, /^gatecar_requests_total\{protocol="http",decision="allow",reason=""\} 256$/m);
  });

  await assertEnvoyClaims(t, { protocol: 'gRPC', url, gatecar, application, token });

  t.test('a hanging API server is a denial, even for an Envoy with a shorter timeout that fails open', async t => {
    const impatient = replaceOnce(failsOpen, 'timeout: 5s', 'timeout: 0.3s');
    const envoys = [await startEnvoy(t, failsOpen, neighbours), await startEnvoy(t, impatient, neighbours)];
    const newTokens = [await newToken(), await newToken()];
    await api.pause();
    const before = application.requests.length;
    for (const [index, envoy] of envoys.entries()) {
      const reply = await sendRequest(envoy.url, { token: newTokens[index] ?? '' });
      t.match(reply, {
        status: 503,
        headers: { 'x-gatecar-reason': 'authority_unavailable', 'retry-after': /^\d+$/ },
      });
      t.strictSame(JSON.parse(reply.body), { error: 'TokenReview API call failed: timeout' });
    }
    t.equal(application.requests.length, before);
    api.resume();
  });

  t.test('an API server that is down is a denial, even for an Envoy that fails open', async t => {
    const open = await startEnvoy(t, failsOpen, neighbours);
    const uncachedToken = await newToken();
    await api.down();
    const before = application.requests.length;
    for (const base of [url, open.url]) {
      const reply = await sendRequest(base, { token: uncachedToken });
      t.match(reply, { status: 503, headers: { 'x-gatecar-reason': 'authority_unavailable', 'retry-after': /^\d+$/ } });
    }
    t.equal(application.requests.length, before);
  });

  t.test('a gatecar that hangs or is down is a 503 with Retry-After from Envoy', async t => {
    const envoy = await startEnvoy(t, replaceOnce(config, 'timeout: 5s', 'timeout: 0.3s'), neighbours);
    const before = application.requests.length;
    gatecar.signal('SIGSTOP');
    t.match(await sendRequest(envoy.url, { token }), {
      status: 503,
      headers: { 'retry-after': '1', 'cache-control': 'no-store' },
    });
    gatecar.signal('SIGKILL');
    await gatecar.end();
    t.match(await sendRequest(envoy.url, { token }), { status: 503, headers: { 'retry-after': '1' } });
    t.equal(application.requests.length, before);
  });
}
