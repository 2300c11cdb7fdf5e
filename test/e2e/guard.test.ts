import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { metric } from '../fixtures/metrics.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { each, keysRead } from './fixtures/support/concurrent-requests.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { randomToken } from './fixtures/support/opaque-tokens.ts';
import { refusalOf, rejected } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// The API server is guarded from whoever makes up tokens, and gatecar goes on without it; it is the API server that counts.

const audiences = ['bindcar'];

const BAD_SIGNATURE = '[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]';

t.setTimeout(startLimitMs);

t.test('guarding the API server', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings: address } = await startCluster(t);
  const settings = { ...address, GATECAR_LOG_LEVEL: 'info' };
  await api.createServiceAccount('apps', 'web');
  const claims = await api.claimsFor('apps', 'web', { aud: audiences });
  let made = 0;
  /** Signed here with the API server's key: asking it for thousands would take minutes. */
  const newToken = (): string => {
    made += 1;
    return api.signToken({ ...claims, jti: `${made}` });
  };
  const spoilt = (): string => {
    const token = newToken();
    const at = token.lastIndexOf('.') + 20;
    return `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`;
  };

  t.test('wrongly signed tokens from 64 connections are no reviews at all, and good ones pass among them', async t => {
    const gatecar = await startGatecar(t, settings);
    await keysRead(gatecar);
    const forged = Array.from({ length: 2_000 }, spoilt);
    const good = Array.from({ length: 50 }, newToken);
    const reviews = await reviewsDuring(api, async () => {
      const flood = each(forged, 64, async (token, agent) => {
        t.strictSame(refusalOf(await ask(gatecar.auth, { token, agent })), rejected(BAD_SIGNATURE));
      });
      await each(good, 1, async (token, agent) => {
        t.equal((await ask(gatecar.auth, { token, agent })).status, 200);
      });
      await flood;
    });
    t.equal(reviews, good.length);
  });

  t.test('what is refused here is refused in the words of the API server', async t => {
    const [here, there] = await Promise.all([
      startGatecar(t, settings),
      startGatecar(t, { ...settings, GATECAR_JWT_PRECHECK: 'off' }),
    ]);
    await keysRead(here);
    const now = Math.floor(Date.now() / 1_000);
    const bad = {
      signature: spoilt(),
      expired: api.signToken({ ...claims, iat: now - 7_200, nbf: now - 7_200, exp: now - 3_600 }),
      not_yet_valid: api.signToken({ ...claims, iat: now + 3_600, nbf: now + 3_600, exp: now + 7_200 }),
      audience: api.signToken({ ...claims, aud: ['b', 'ü "quoted"'] }),
    };
    for (const [check, token] of Object.entries(bad)) {
      const reviews = await reviewsDuring(api, async () => {
        const ours = refusalOf(await ask(here.auth, { token }));
        t.strictSame(ours, refusalOf(await ask(there.auth, { token })), check);
      });
      t.equal(reviews, 1, `${check}: one of the two asked`);
    }
  });

  t.test('opaque junk never takes more than a quarter, and a good token does not wait behind it', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_REVIEW_TIMEOUT: '30s' });
    await keysRead(gatecar);
    const inFlight = async (priority: string) =>
      Number(await metric(gatecar.ops, `gatecar_reviews_in_flight{priority="${priority}"}`));
    t.teardown(() => api.resume());
    await api.pause();
    const junk = each(Array.from({ length: 64 }, randomToken), 64, async (token, agent) => {
      return (await ask(gatecar.auth, { token, agent })).status;
    });
    await until('junk has its share', async () => (await inFlight('unverified')) === 8);
    const good = each(Array.from({ length: 24 }, newToken), 24, async (token, agent) => {
      return (await ask(gatecar.auth, { token, agent })).status;
    });
    await until('all good tokens are being asked about', async () => (await inFlight('verified')) === 24);
    t.equal(await inFlight('unverified'), 8);
    api.resume();
    t.strictSame(new Set(await good), new Set([200]));
    t.strictSame(new Set(await junk), new Set([401]));
  });

  t.test(
    'the API server paused for 30 s with a grace of 60 s: known tokens pass and are marked, new ones are a 503',
    async t => {
      const gatecar = await startGatecar(t, {
        ...settings,
        GATECAR_CACHE_TTL: '2s',
        GATECAR_CACHE_STALE_IF_ERROR: '60s',
        GATECAR_REVIEW_TIMEOUT: '1s',
      });
      await keysRead(gatecar);
      const known = Array.from({ length: 20 }, newToken);
      await each(known, 4, async token => t.equal((await ask(gatecar.auth, { token })).status, 200));
      t.teardown(() => api.resume());
      const resumeAt = performance.now() + 30_000;
      await api.pause();
      await until('the results are past their time', async () => {
        const { status, headers } = await ask(gatecar.auth, { token: known[0] ?? '' });
        return status === 200 && headers['x-gatecar-stale'] !== undefined;
      });
      let rounds = 0;
      while (performance.now() < resumeAt) {
        await each(known, 4, async token => {
          const { status, headers } = await ask(gatecar.auth, { token });
          t.equal(status, 200);
          t.match(headers['x-gatecar-stale'], /^\d+$/);
        });
        t.match(await ask(gatecar.auth, { token: newToken() }), {
          status: 503,
          headers: { 'retry-after': '1', 'x-gatecar-reason': 'authority_unavailable' },
        });
        rounds += 1;
      }
      t.ok(rounds > 5);
      t.equal(await metric(gatecar.ops, 'gatecar_serving_stale'), 1);
      api.resume();
      await until('it can be asked again', async () => (await metric(gatecar.ops, 'gatecar_apiserver_up')) === 1);
      await each([...known, newToken()], 4, async token => {
        const { status, headers } = await ask(gatecar.auth, { token });
        t.equal(status, 200);
        t.equal(headers['x-gatecar-stale'], undefined);
      });
      t.equal(await metric(gatecar.ops, 'gatecar_serving_stale'), 0);
      const told = (await gatecar.logs()).filter(({ msg }) => /serving stale results/.test(msg));
      t.equal(told.length, 2, 'a line at its start, and one at its end');
    },
  );
});
