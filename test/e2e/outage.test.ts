import { readFile, writeFile } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { sendRequest } from '../fixtures/send-request.ts';
import { newTokens, startCluster } from './fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import type { KubeObject } from './fixtures/support/kube-api.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { denialOf } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// The API server becomes unreachable for each realistic reason, and recovers.

const audiences = ['bindcar'];
const reviewTimeoutMs = 2_000;

t.setTimeout(startLimitMs);

t.test('outages of a real API server', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, tokenFile, settings, applyRbac, renewToken } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const newToken = () => api.requestToken('apps', 'web', { audiences });
  // Requested beforehand, because an API server that is down issues no tokens.
  const cachedToken = await newToken();
  const unusedTokens = await Promise.all(Array.from({ length: 12 }, newToken));
  const takeToken = () => unusedTokens.pop() ?? 'no tokens left';
  const outageSettings = { ...settings, GATECAR_CACHE_TTL: '10m', GATECAR_REVIEW_TIMEOUT: `${reviewTimeoutMs}ms` };
  const gatecar = await startGatecar(t, outageSettings);
  t.equal((await sendRequest(gatecar.auth, { token: cachedToken })).status, 200);

  t.test('API server hung: 503 within the review timeout, a cached token passes, and then it recovers', async t => {
    t.teardown(() => api.resume());
    await api.pause();
    const start = performance.now();
    await assertUnavailable(t, gatecar, takeToken(), 'timeout');
    const took = performance.now() - start;
    t.ok(took >= reviewTimeoutMs && took < reviewTimeoutMs + 5_000, `${took} ms`);
    await servesOnlyCached(t, gatecar, 'timeout');
    api.resume();
    await recovers(t, gatecar);
  });

  t.test('a cached token is served until its TTL, and not longer', async t => {
    const shortLived = await startGatecar(t, { ...outageSettings, GATECAR_CACHE_TTL: '3s' });
    const start = performance.now();
    t.equal((await sendRequest(shortLived.auth, { token: cachedToken })).status, 200);
    t.teardown(() => api.resume());
    await api.pause();
    t.equal((await sendRequest(shortLived.auth, { token: cachedToken })).status, 200);
    await until(
      'the result has expired',
      async () => (await sendRequest(shortLived.auth, { token: cachedToken })).status === 503,
    );
    t.ok(performance.now() - start >= 3_000);
    api.resume();
  });

  t.test(
    'API server stopped: 503 at once; back with another certificate of the same CA, reviews succeed again',
    async t => {
      await api.down();
      await assertUnavailable(t, gatecar, takeToken(), 'connection refused');
      await servesOnlyCached(t, gatecar, 'connection refused (ECONNREFUSED)');

      const waiting = await startGatecar(t, outageSettings, { ready: false });
      t.equal(
        await waiting.reports(/^\[-\]first-review failed: connection refused/m),
        503,
        'without a first review gatecar is not ready',
      );
      await assertUnavailable(t, waiting, cachedToken, 'connection refused');
      t.equal((await sendRequest(waiting.ops, { path: '/livez' })).status, 200, 'a restart would not help');

      await api.restart({ newCertificate: true });
      await recovers(t, gatecar);
      await waiting.ready();
      t.equal((await sendRequest(waiting.auth, { token: cachedToken })).status, 200);
    },
  );

  t.test('API server back with another CA: the replaced CA file is read again', async t => {
    const oldAuthority = await readFile(api.caFile, 'utf8');
    await api.restart({ newAuthority: true });
    const newAuthority = await readFile(api.caFile, 'utf8');
    await writeFile(api.caFile, oldAuthority);
    const withOldCa = await startGatecar(t, outageSettings, { ready: false });
    t.equal(await withOldCa.reports(/^\[-\]first-review failed: tls /m), 503);
    await assertUnavailable(t, withOldCa, takeToken(), 'tls');
    await writeFile(api.caFile, newAuthority);
    await withOldCa.ready();
    await recovers(t, gatecar);
  });

  t.test('the right to create TokenReviews is lost (403): an outage and no denial, until it is back', async t => {
    await api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview');
    await until('the API server denies reviews', async () => {
      return (await sendRequest(gatecar.auth, { token: 'garbage' })).status === 503;
    });
    await assertUnavailable(t, gatecar, takeToken(), 'forbidden');
    await servesOnlyCached(t, gatecar, 'forbidden (HTTP 403)');
    const waiting = await startGatecar(t, outageSettings, { ready: false });
    t.equal(await waiting.reports(/^\[-\]first-review failed: forbidden \(HTTP 403\)/m), 503);
    await applyRbac();
    await recovers(t, gatecar);
    await waiting.ready();
  });

  t.test('gatecar’s own token is rejected (401): an outage and no denial, until the file has a valid one', async t => {
    const claims = await api.claimsFor('gatecar', 'gatecar');
    const hourAgo = Math.floor(Date.now() / 1_000) - 3_600;
    for (const invalidToken of [
      'garbage',
      api.signToken({ ...claims, nbf: hourAgo - 60, iat: hourAgo - 60, exp: hourAgo }),
    ]) {
      await writeFile(tokenFile, invalidToken);
      await until(
        'the invalid token is used',
        async () => (await sendRequest(gatecar.auth, { token: 'garbage' })).status === 503,
      );
      await assertUnavailable(t, gatecar, takeToken(), 'unauthorized');
      await servesOnlyCached(t, gatecar, 'unauthorized (HTTP 401)');
      await renewToken();
      await recovers(t, gatecar);
    }
    const waiting = await startGatecar(
      t,
      { ...outageSettings, GATECAR_KUBE_TOKEN_FILE: '/nowhere/token' },
      { ready: false },
    );
    t.equal(
      await waiting.reports(/^\[-\]first-review failed: token file \/nowhere\/token cannot be read: ENOENT/m),
      503,
    );
    const { status, body } = await sendRequest(waiting.auth, { token: takeToken() });
    t.strictSame([status, JSON.parse(body)], [503, { error: 'Failed to create Kubernetes client' }]);
  });

  t.test('the API server throttles reviews (429): 503 for some requests, a denial for none', async t => {
    const claims = await api.claimsFor('apps', 'web', { aud: audiences });
    const tokens = Array.from({ length: 64 }, newTokens(api, claims));
    await api.apply(...oneAtATime('gatecar', 'gatecar'));
    // One request fits at a time; whether others arrive meanwhile depends on the scheduler.
    const throttled = await until('the API server throttles some reviews', async () => {
      const newGatecar = await startGatecar(t, outageSettings);
      const replies = await Promise.all(tokens.map(token => sendRequest(newGatecar.auth, { token })));
      t.ok(replies.every(({ status }) => status === 200 || status === 503));
      return replies.find(({ status }) => status !== 200);
    });
    t.strictSame(denialOf(throttled), {
      status: 503,
      body: { error: 'TokenReview API call failed: too many requests' },
      challenge: undefined,
      reason: 'authority_unavailable',
    });
    t.equal(throttled.headers['retry-after'], '1', 'the value of the API server');
    await api.request('DELETE', '/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/one-at-a-time');
    await recovers(t, gatecar);
  });

  t.test('an outage may be answered 401 or 403, for gateways that treat no other status as a denial', async t => {
    const gatecar401 = await startGatecar(t, { ...outageSettings, GATECAR_UNAVAILABLE_STATUS: '401' });
    t.teardown(() => api.resume());
    await api.pause();
    const reply = await sendRequest(gatecar401.auth, { token: takeToken() });
    t.strictSame(denialOf(reply), {
      status: 401,
      body: { error: 'TokenReview API call failed: timeout' },
      challenge: 'Bearer realm="gatecar"',
      reason: 'authority_unavailable',
    });
    api.resume();
  });

  /**
   * A new token gets 503. A cached token passes, and gatecar stays ready so that the gateway keeps
   * its route.
   */
  async function servesOnlyCached(t: Test, gatecar: GatecarProcess, problem: string): Promise<void> {
    t.equal((await sendRequest(gatecar.auth, { token: cachedToken })).status, 200, 'a cached token passes');
    const { status, body } = await gatecar.readyz();
    t.equal(status, 200, 'gatecar stays ready');
    t.match(body, new RegExp(`^\\[-\\]apiserver failed: (${problem.replace(/[()]/g, '\\$&')})`, 'm'));
    const metrics = await sendRequest(gatecar.ops, { path: '/metrics' });
    t.match(metrics.body, /^gatecar_apiserver_up 0$/m);
  }

  async function recovers(t: Test, gatecar: GatecarProcess): Promise<void> {
    const token = await newToken();
    await until('reviews succeed again', async () => (await sendRequest(gatecar.auth, { token })).status === 200);
    t.match(await gatecar.readyz(), { status: 200, body: '[+]apiserver ok' });
    t.equal((await sendRequest(gatecar.auth, { token: 'garbage' })).status, 401, 'an invalid token is rejected again');
  }
});

async function assertUnavailable(t: Test, gatecar: GatecarProcess, token: string, cause: string): Promise<void> {
  const reply = await sendRequest(gatecar.auth, { token });
  t.strictSame(denialOf(reply), {
    status: 503,
    body: { error: `TokenReview API call failed: ${cause}` },
    challenge: undefined,
    reason: 'authority_unavailable',
  });
  t.match(reply.headers, { 'retry-after': /^[1-9]\d*$/, 'cache-control': 'no-store' });
}

/**
 * A priority level that rejects a request while another is in progress, and a schema that assigns
 * a ServiceAccount to it.
 */
function oneAtATime(namespace: string, name: string): KubeObject[] {
  const apiVersion = 'flowcontrol.apiserver.k8s.io/v1';
  const everything = { verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true };
  return [
    {
      apiVersion,
      kind: 'PriorityLevelConfiguration',
      metadata: { name: 'one-at-a-time' },
      spec: {
        type: 'Limited',
        limited: { nominalConcurrencyShares: 0, borrowingLimitPercent: 0, limitResponse: { type: 'Reject' } },
      },
    },
    {
      apiVersion,
      kind: 'FlowSchema',
      metadata: { name: 'one-at-a-time' },
      spec: {
        priorityLevelConfiguration: { name: 'one-at-a-time' },
        matchingPrecedence: 100,
        rules: [
          { subjects: [{ kind: 'ServiceAccount', serviceAccount: { namespace, name } }], resourceRules: [everything] },
        ],
      },
    },
  ];
}
