import t from 'tap';
import { cacheLookups } from '../fixtures/metrics.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { newTokens, reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { forEachConcurrently, jwksFetched } from './fixtures/support/concurrent-requests.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// A separate file, because it takes minutes. The TTL is long enough that each token is requested
// in the last fifth of it, even on a busy machine. Only such tokens are refreshed ahead.

t.setTimeout(startLimitMs);

t.test(
  '1,000 hot tokens: after the first review no request waits, and each token costs one review per TTL',
  { skip: skipWithout(kubeApiServerMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
    const newToken = newTokens(api, claims);
    const ttlSeconds = 20;
    const ttls = 10;
    const gatecar = await startGatecar(t, {
      ...settings,
      GATECAR_LOG_LEVEL: 'info',
      GATECAR_CACHE_TTL: `${ttlSeconds}s`,
      GATECAR_REVIEW_MAX_QUEUE: '1000',
    });
    await jwksFetched(gatecar);
    const tokens = Array.from({ length: 1_000 }, newToken);
    const sendAll = (connections: number) =>
      forEachConcurrently(
        tokens,
        connections,
        async (token, agent) => (await sendRequest(gatecar.auth, { token, agent })).status,
      );
    t.strictSame(new Set(await sendAll(16)), new Set([200]));
    const waits = async () =>
      (await cacheLookups(gatecar.ops, 'miss')) +
      (await cacheLookups(gatecar.ops, 'coalesced')) +
      (await cacheLookups(gatecar.ops, 'stale'));
    const before = await waits();
    const statuses = new Set<number>();
    const reviews = await reviewsDuring(api, async () => {
      const end = performance.now() + ttlSeconds * ttls * 1_000;
      while (performance.now() < end) for (const status of await sendAll(4)) statuses.add(status);
    });
    t.strictSame(statuses, new Set([200]));
    t.equal((await waits()) - before, 0, 'all other requests found a result');
    t.ok(reviews >= tokens.length * (ttls - 1) && reviews <= tokens.length * ttls * 1.1, `${reviews} reviews`);
  },
);
