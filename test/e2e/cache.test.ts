import { readFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import t from 'tap';
import { cacheLookups } from '../fixtures/metrics.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { until } from './fixtures/support/until.ts';

// Many requests cost one review until the result expires. The API server itself counts reviews.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('results are cached', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, tokenFile, settings, applyRbac } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const newToken = () => api.requestToken('apps', 'web', { audiences });

  t.test('1,000 requests with one token cost one review', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_CACHE_TTL: '10m' });
    const token = await newToken();
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    t.teardown(() => agent.destroy());
    const reviews = await reviewsDuring(api, async () => {
      const statuses = new Set<number>();
      await inParallel(1_000, async () => statuses.add((await sendRequest(gatecar.auth, { token, agent })).status));
      t.strictSame([...statuses], [200]);
    });
    t.equal(reviews, 1);
  });

  t.test('256 concurrent requests with a new token cost one review, whether the token is valid or not', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_REVIEW_TIMEOUT: '30s' });
    t.teardown(() => api.resume());
    for (const [token, status, coalesced] of [
      [await newToken(), 200, 255],
      ['garbage', 401, 510],
    ] as const) {
      const reviews = await reviewsDuring(api, async () => {
        // The API server is paused until all requests wait. A late request would find the cached
        // result and share nothing.
        await api.pause();
        const answers = inParallel(256, () => sendRequest(gatecar.auth, { token }));
        await until(
          'all requests wait for one review',
          async () => (await cacheLookups(gatecar.ops, 'coalesced')) === coalesced,
        );
        api.resume();
        t.strictSame(new Set((await answers).map(reply => reply.status)), new Set([status]));
      });
      t.equal(reviews, 1);
    }
  });

  t.test('with a TTL of 0 each request costs a review', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_CACHE_TTL: '0', GATECAR_CACHE_NEGATIVE_TTL: '0' });
    for (const token of [await newToken(), 'garbage']) {
      const reviews = await reviewsDuring(api, async () => {
        for (let round = 0; round < 5; round += 1) await sendRequest(gatecar.auth, { token });
      });
      t.equal(reviews, 5);
    }
  });

  t.test('an allow is reviewed again after its TTL, and not before', async t => {
    const gatecar = await startGatecar(t, {
      ...settings,
      GATECAR_CACHE_TTL: '1500ms',
      GATECAR_CACHE_REFRESH_AHEAD: 'false',
    });
    const token = await newToken();
    const elapsed = await untilReviewedAgain(async () =>
      t.equal((await sendRequest(gatecar.auth, { token })).status, 200),
    );
    t.ok(elapsed >= 1_500, `${elapsed} ms`);
  });

  t.test('a rejection is reviewed again after 2 s, and not before', async t => {
    const gatecar = await startGatecar(t, settings);
    const elapsed = await untilReviewedAgain(async () =>
      t.equal((await sendRequest(gatecar.auth, { token: 'garbage' })).status, 401),
    );
    t.ok(elapsed >= 2_000, `${elapsed} ms`);
  });

  t.test("no result outlives its token's exp, although the API server allows another minute", async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_CACHE_TTL: '10m' });
    const exp = Math.floor(Date.now() / 1_000) + 3;
    const token = api.signToken(await api.claimsFor('apps', 'web', { aud: audiences, exp }));
    await untilReviewedAgain(async () => t.equal((await sendRequest(gatecar.auth, { token })).status, 200));
    t.ok(Date.now() >= exp * 1_000, 'the result was cached until then');
    const reviews = await reviewsDuring(api, async () => {
      for (let round = 0; round < 5; round += 1) t.equal((await sendRequest(gatecar.auth, { token })).status, 200);
    });
    t.equal(reviews, 5, 'the result is no longer cached');
  });

  t.test('an outage is not cached, however long results are', async t => {
    const gatecar = await startGatecar(t, {
      ...settings,
      GATECAR_CACHE_TTL: '10m',
      GATECAR_CACHE_NEGATIVE_TTL: '10m',
      GATECAR_REVIEW_TIMEOUT: '2s',
    });
    const newTokenInOutage = await newToken();
    t.teardown(() => api.resume());
    await api.pause();
    t.match(await sendRequest(gatecar.auth, { token: newTokenInOutage }), {
      status: 503,
      headers: { 'retry-after': '1' },
    });
    api.resume();
    t.equal((await api.request('GET', '/livez')).status, 200);
    t.equal((await sendRequest(gatecar.auth, { token: newTokenInOutage })).status, 200, 'the next request is reviewed');

    const ownToken = await readFile(tokenFile, 'utf8');
    const mayReview = async () => {
      const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token: 'x' } };
      const path = '/apis/authentication.k8s.io/v1/tokenreviews';
      return (await api.request('POST', path, body, { token: ownToken })).status === 201;
    };
    const unreviewed = await newToken();
    await api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview');
    await until('the API server denies reviews', async () => !(await mayReview()));
    t.equal((await sendRequest(gatecar.auth, { token: unreviewed })).status, 503);
    await applyRbac();
    await until('the API server allows reviews again', mayReview);
    t.equal((await sendRequest(gatecar.auth, { token: unreviewed })).status, 200);
  });

  t.test('no token gets the result of another', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_CACHE_TTL: '10m' });
    await api.createServiceAccount('apps', 'other');
    const tokens = [await newToken(), await api.requestToken('apps', 'other', { audiences }), 'garbage'];
    for (let round = 0; round < 2; round += 1) {
      const users: unknown[] = [];
      for (const token of tokens)
        users.push((await sendRequest(gatecar.auth, { token })).headers['x-auth-request-user']);
      t.strictSame(users, ['system:serviceaccount:apps:web', 'system:serviceaccount:apps:other', undefined]);
    }
  });

  /**
   * Sends a request repeatedly until the API server has received two reviews.
   *
   * @returns the milliseconds from before the first request to after the one that caused the
   * second review.
   */
  async function untilReviewedAgain(send: () => Promise<unknown>): Promise<number> {
    const before = await api.reviews();
    const start = performance.now();
    await send();
    return await until('a second review is sent', async () => {
      await send();
      const elapsed = performance.now() - start;
      return (await api.reviews()) - before > 1 && elapsed;
    });
  }
});

function inParallel<T>(count: number, work: () => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, work));
}
