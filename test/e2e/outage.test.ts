import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { ask } from '../fixtures/ask.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import type { KubeObject } from './fixtures/support/kube-api.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { refusalOf } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// API server unreachable, for each reason a real one has, and then it can again.

const audiences = ['bindcar'];
const reviewTimeoutMs = 2_000;

t.setTimeout(startLimitMs);

t.test('outages', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, tokenFile, settings, applyRbac, renewToken } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const newToken = () => api.requestToken('apps', 'web', { audiences });
  // Asked for beforehand: an API server that is away makes none.
  const known = await newToken();
  const strangers = await Promise.all(Array.from({ length: 12 }, newToken));
  const stranger = () => strangers.pop() ?? 'no tokens left';
  const outageSettings = { ...settings, GATECAR_CACHE_TTL: '10m', GATECAR_REVIEW_TIMEOUT: `${reviewTimeoutMs}ms` };
  const gatecar = await startGatecar(t, outageSettings);
  t.equal((await ask(gatecar.auth, { token: known })).status, 200);

  t.test('hung: 503 within the review timeout, the known token passes, and then it goes on', async t => {
    t.teardown(() => api.resume());
    await api.pause();
    const start = performance.now();
    await isOutage(t, gatecar, stranger(), 'timeout');
    const took = performance.now() - start;
    t.ok(took >= reviewTimeoutMs && took < reviewTimeoutMs + 5_000, `${took} ms`);
    await servesOnlyWhatIsKnown(t, gatecar, 'timeout');
    api.resume();
    await recovers(t, gatecar);
  });

  t.test('a known token is served until its TTL, and not longer', async t => {
    const shortLived = await startGatecar(t, { ...outageSettings, GATECAR_CACHE_TTL: '3s' });
    const start = performance.now();
    t.equal((await ask(shortLived.auth, { token: known })).status, 200);
    t.teardown(() => api.resume());
    await api.pause();
    t.equal((await ask(shortLived.auth, { token: known })).status, 200);
    await until('it has run out', async () => (await ask(shortLived.auth, { token: known })).status === 503);
    t.ok(performance.now() - start >= 3_000);
    api.resume();
  });

  t.test('stopped: 503 at once; back with another certificate of the same authority, it is asked again', async t => {
    await api.down();
    await isOutage(t, gatecar, stranger(), 'connection refused');
    await servesOnlyWhatIsKnown(t, gatecar, 'connection refused (ECONNREFUSED)');

    const waiting = await startGatecar(t, outageSettings, { ready: false });
    t.equal(await waiting.reports(/^\[-\]first-review failed: connection refused/m), 503, 'never asked, never ready');
    await isOutage(t, waiting, known, 'connection refused');
    t.equal((await ask(waiting.ops, { path: '/livez' })).status, 200, 'a restart would not help');

    await api.restart({ newCertificate: true });
    await recovers(t, gatecar);
    await waiting.ready();
    t.equal((await ask(waiting.auth, { token: known })).status, 200);
  });

  t.test('back with another authority: a CA file that was replaced meanwhile is read again', async t => {
    const oldAuthority = await readFile(api.caFile, 'utf8');
    await api.restart({ newAuthority: true });
    const newAuthority = await readFile(api.caFile, 'utf8');
    await writeFile(api.caFile, oldAuthority);
    const suspicious = await startGatecar(t, outageSettings, { ready: false });
    t.equal(await suspicious.reports(/^\[-\]first-review failed: tls /m), 503);
    await isOutage(t, suspicious, stranger(), 'tls');
    await writeFile(api.caFile, newAuthority);
    await suspicious.ready();
    await recovers(t, gatecar);
  });

  t.test('our permission is gone (403): an outage and no denial, until it is there again', async t => {
    await api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview');
    await until('the API server refuses our reviews', async () => {
      return (await ask(gatecar.auth, { token: 'garbage' })).status === 503;
    });
    await isOutage(t, gatecar, stranger(), 'forbidden');
    await servesOnlyWhatIsKnown(t, gatecar, 'forbidden (HTTP 403)');
    const waiting = await startGatecar(t, outageSettings, { ready: false });
    t.equal(await waiting.reports(/^\[-\]first-review failed: forbidden \(HTTP 403\)/m), 503);
    await applyRbac();
    await recovers(t, gatecar);
    await waiting.ready();
  });

  t.test('our own token is refused (401): an outage and no denial, until the file has a good one', async t => {
    const claims = await api.claimsFor('gatecar', 'gatecar');
    const hourAgo = Math.floor(Date.now() / 1_000) - 3_600;
    for (const bad of ['garbage', api.signToken({ ...claims, nbf: hourAgo - 60, iat: hourAgo - 60, exp: hourAgo })]) {
      await writeFile(tokenFile, bad);
      await until('the bad token is used', async () => (await ask(gatecar.auth, { token: 'garbage' })).status === 503);
      await isOutage(t, gatecar, stranger(), 'unauthorized');
      await servesOnlyWhatIsKnown(t, gatecar, 'unauthorized (HTTP 401)');
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
    const { status, body } = await ask(waiting.auth, { token: stranger() });
    t.strictSame([status, JSON.parse(body)], [503, { error: 'Failed to create Kubernetes client' }]);
  });

  t.test('too many at once for the API server (429): 503 for some, a denial for none', async t => {
    const claims = await api.claimsFor('apps', 'web', { aud: audiences });
    const tokens = Array.from({ length: 64 }, () => api.signToken({ ...claims, jti: randomUUID() }));
    await api.apply(...oneAtATime('gatecar', 'gatecar'));
    // One request finds room there; whether others come meanwhile is up to the scheduler.
    const refused = await until('the API server turns some of us away', async () => {
      const fresh = await startGatecar(t, outageSettings);
      const replies = await Promise.all(tokens.map(token => ask(fresh.auth, { token })));
      t.ok(replies.every(({ status }) => status === 200 || status === 503));
      return replies.find(({ status }) => status !== 200);
    });
    t.strictSame(refusalOf(refused), {
      status: 503,
      body: { error: 'TokenReview API call failed: too many requests' },
      challenge: undefined,
      reason: 'authority_unavailable',
    });
    t.equal(refused.headers['retry-after'], '1', 'as the API server says');
    await api.request('DELETE', '/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/one-at-a-time');
    await recovers(t, gatecar);
  });

  t.test('an outage may be answered 401 or 403, for gateways that know no other no', async t => {
    const gatecar401 = await startGatecar(t, { ...outageSettings, GATECAR_UNAVAILABLE_STATUS: '401' });
    t.teardown(() => api.resume());
    await api.pause();
    const reply = await ask(gatecar401.auth, { token: stranger() });
    t.strictSame(refusalOf(reply), {
      status: 401,
      body: { error: 'TokenReview API call failed: timeout' },
      challenge: 'Bearer realm="gatecar"',
      reason: 'authority_unavailable',
    });
    api.resume();
  });

  /** A new token cannot be asked about; the known one needs no question, and the gateway keeps its route to us. */
  async function servesOnlyWhatIsKnown(t: Test, gatecar: GatecarProcess, problem: string): Promise<void> {
    t.equal((await ask(gatecar.auth, { token: known })).status, 200, 'a known token passes');
    const { status, body } = await gatecar.readyz();
    t.equal(status, 200, 'it stays ready');
    t.match(body, new RegExp(`^\\[-\\]apiserver failed: (${problem.replace(/[()]/g, '\\$&')})`, 'm'));
    const metrics = await ask(gatecar.ops, { path: '/metrics' });
    t.match(metrics.body, /^gatecar_apiserver_up 0$/m);
  }

  async function recovers(t: Test, gatecar: GatecarProcess): Promise<void> {
    const token = await newToken();
    await until('it can be asked again', async () => (await ask(gatecar.auth, { token })).status === 200);
    t.match(await gatecar.readyz(), { status: 200, body: '[+]apiserver ok' });
    t.equal((await ask(gatecar.auth, { token: 'garbage' })).status, 401, 'a no is a no again');
  }
});

async function isOutage(t: Test, gatecar: GatecarProcess, token: string, cause: string): Promise<void> {
  const reply = await ask(gatecar.auth, { token });
  t.strictSame(refusalOf(reply), {
    status: 503,
    body: { error: `TokenReview API call failed: ${cause}` },
    challenge: undefined,
    reason: 'authority_unavailable',
  });
  t.match(reply.headers, { 'retry-after': /^[1-9]\d*$/, 'cache-control': 'no-store' });
}

/** A priority level that turns away who comes while another is there, and what sends a ServiceAccount to it. */
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
