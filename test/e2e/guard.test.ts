import t from 'tap';
import { metric } from '../fixtures/metrics.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { newTokens, reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { forEachConcurrently, jwksFetched } from './fixtures/support/concurrent-requests.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { randomToken } from './fixtures/support/opaque-tokens.ts';
import { denialOf, rejected } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// Invalid tokens must not cause load on the API server, and gatecar continues without it. The
// reviews are counted by the API server itself.

const audiences = ['bindcar'];

const BAD_SIGNATURE = '[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]';

t.setTimeout(startLimitMs);

t.test('gatecar protects the API server', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings: address } = await startCluster(t);
  const settings = { ...address, GATECAR_LOG_LEVEL: 'info' };
  await api.createServiceAccount('apps', 'web');
  const claims = await api.claimsFor('apps', 'web', { aud: audiences });
  const newToken = newTokens(api, claims);
  const wronglySigned = (): string => {
    const token = newToken();
    const index = token.lastIndexOf('.') + 20;
    return `${token.slice(0, index)}${token[index] === 'A' ? 'B' : 'A'}${token.slice(index + 1)}`;
  };

  t.test('wrongly signed tokens from 64 connections cost no review, and valid tokens pass meanwhile', async t => {
    const gatecar = await startGatecar(t, settings);
    await jwksFetched(gatecar);
    const invalidTokens = Array.from({ length: 2_000 }, wronglySigned);
    const validTokens = Array.from({ length: 50 }, newToken);
    const reviews = await reviewsDuring(api, async () => {
      const flood = forEachConcurrently(invalidTokens, 64, async (token, agent) => {
        t.strictSame(denialOf(await sendRequest(gatecar.auth, { token, agent })), rejected(BAD_SIGNATURE));
      });
      await forEachConcurrently(validTokens, 1, async (token, agent) => {
        t.equal((await sendRequest(gatecar.auth, { token, agent })).status, 200);
      });
      await flood;
    });
    t.equal(reviews, validTokens.length);
  });

  t.test('a local rejection has the same text as one by the API server', async t => {
    const [local, remote] = await Promise.all([
      startGatecar(t, settings),
      startGatecar(t, { ...settings, GATECAR_JWT_PRECHECK: 'off' }),
    ]);
    await jwksFetched(local);
    const now = Math.floor(Date.now() / 1_000);
    const invalid = {
      signature: wronglySigned(),
      expired: api.signToken({ ...claims, iat: now - 7_200, nbf: now - 7_200, exp: now - 3_600 }),
      'not yet valid': api.signToken({ ...claims, iat: now + 3_600, nbf: now + 3_600, exp: now + 7_200 }),
      audience: api.signToken({ ...claims, aud: ['b', 'ü "quoted"'] }),
    };
    for (const [check, token] of Object.entries(invalid)) {
      const reviews = await reviewsDuring(api, async () => {
        const rejection = denialOf(await sendRequest(local.auth, { token }));
        t.strictSame(rejection, denialOf(await sendRequest(remote.auth, { token })), check);
      });
      t.equal(reviews, 1, `${check}: only one of the two gatecars sends a review`);
    }
  });

  t.test(
    'opaque invalid tokens take at most a quarter of the slots, and valid tokens do not wait behind them',
    async t => {
      const gatecar = await startGatecar(t, { ...settings, GATECAR_REVIEW_TIMEOUT: '30s' });
      await jwksFetched(gatecar);
      const inFlight = async (priority: string) =>
        Number(await metric(gatecar.ops, `gatecar_reviews_in_flight{priority="${priority}"}`));
      t.teardown(() => api.resume());
      await api.pause();
      const invalid = forEachConcurrently(Array.from({ length: 64 }, randomToken), 64, async (token, agent) => {
        return (await sendRequest(gatecar.auth, { token, agent })).status;
      });
      await until('invalid tokens have all their slots', async () => (await inFlight('unverified')) === 8);
      const valid = forEachConcurrently(Array.from({ length: 24 }, newToken), 24, async (token, agent) => {
        return (await sendRequest(gatecar.auth, { token, agent })).status;
      });
      await until('all valid tokens are in review', async () => (await inFlight('verified')) === 24);
      t.equal(await inFlight('unverified'), 8);
      api.resume();
      t.strictSame(new Set(await valid), new Set([200]));
      t.strictSame(new Set(await invalid), new Set([401]));
    },
  );

  t.test(
    'API server paused for 30 s with stale-if-error of 60 s: cached tokens pass and are marked, new ones get 503',
    async t => {
      const gatecar = await startGatecar(t, {
        ...settings,
        GATECAR_CACHE_TTL: '2s',
        GATECAR_CACHE_STALE_IF_ERROR: '60s',
        GATECAR_REVIEW_TIMEOUT: '1s',
      });
      await jwksFetched(gatecar);
      const cached = Array.from({ length: 20 }, newToken);
      await forEachConcurrently(cached, 4, async token =>
        t.equal((await sendRequest(gatecar.auth, { token })).status, 200),
      );
      t.teardown(() => api.resume());
      const resumeAt = performance.now() + 30_000;
      await api.pause();
      await until('the results are past their TTL', async () => {
        const { status, headers } = await sendRequest(gatecar.auth, { token: cached[0] ?? '' });
        return status === 200 && headers['x-gatecar-stale'] !== undefined;
      });
      let rounds = 0;
      while (performance.now() < resumeAt) {
        await forEachConcurrently(cached, 4, async token => {
          const { status, headers } = await sendRequest(gatecar.auth, { token });
          t.equal(status, 200);
          t.match(headers['x-gatecar-stale'], /^\d+$/);
        });
        t.match(await sendRequest(gatecar.auth, { token: newToken() }), {
          status: 503,
          headers: { 'retry-after': '1', 'x-gatecar-reason': 'authority_unavailable' },
        });
        rounds += 1;
      }
      t.ok(rounds > 5);
      t.equal(await metric(gatecar.ops, 'gatecar_serving_stale'), 1);
      api.resume();
      await until(
        'the API server is reachable again',
        async () => (await metric(gatecar.ops, 'gatecar_apiserver_up')) === 1,
      );
      await forEachConcurrently([...cached, newToken()], 4, async token => {
        const { status, headers } = await sendRequest(gatecar.auth, { token });
        t.equal(status, 200);
        t.equal(headers['x-gatecar-stale'], undefined);
      });
      t.equal(await metric(gatecar.ops, 'gatecar_serving_stale'), 0);
      const staleLines = (await gatecar.logs()).filter(({ msg }) => /serving stale results/.test(msg));
      t.equal(staleLines.length, 2, 'one line at the start and one at the end');
    },
  );
});
