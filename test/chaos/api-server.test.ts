import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { newTokens, startCluster } from '../e2e/fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from '../e2e/fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from '../e2e/fixtures/support/kube-apiserver.ts';
import { skipWithout } from '../e2e/fixtures/support/missing-tools.ts';
import { ServiceAccountKeys } from '../e2e/fixtures/support/service-account-keys.ts';
import { until } from '../e2e/fixtures/support/until.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { Load, type Tokens } from './fixtures/load.ts';
import {
  assertNoMoreResources,
  assertNoWrongResponse,
  assertRecovery,
  HEAP,
  resourcesOf,
} from './fixtures/recovery-assertions.ts';

// The real API server fails in every way, under load. No request passes that should not, no valid
// token is denied, and gatecar recovers as soon as the API server does.

const audiences = ['bindcar'];
const user = 'system:serviceaccount:apps:web';
const reviewTimeoutMs = 1_000;
/** Tolerance for a busy machine. */
const marginMs = 2_000;
const cacheTtlMs = 3_000;
const maxConcurrency = 8;
/** How long each failure lasts under load: longer than results are cached. */
const lastsMs = cacheTtlMs + 1_500;

t.setTimeout(startLimitMs);

t.test('gatecar survives chaos of the API server', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, tokenFile, settings, applyRbac, renewToken } = await startCluster(t);
  const otherKeys = await ServiceAccountKeys.generate();
  const tokensOf = async (): Promise<Tokens> => {
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: audiences });
    return {
      newToken: newTokens(api, claims),
      wronglySigned: () => otherKeys.sign({ ...claims, jti: randomUUID() }, { kid: api.keys.kid }),
    };
  };
  let tokens = await tokensOf();
  const gatecarSettings = {
    ...settings,
    ...HEAP,
    GATECAR_CACHE_TTL: `${cacheTtlMs}ms`,
    GATECAR_REVIEW_TIMEOUT: `${reviewTimeoutMs}ms`,
    GATECAR_REVIEW_MAX_CONCURRENCY: String(maxConcurrency),
  };
  const gatecar = await startGatecar(t, gatecarSettings);
  const startLoad = ({ auth }: GatecarProcess) =>
    new Load({ auth, tokens, user, lateAfterMs: reviewTimeoutMs + marginMs });
  const allAnswered = async (load: Load) => {
    await until('every kind of request is answered', async () => {
      const isAnswered = load.count('cached', 200) > 5 && load.count('new', 200) > 5;
      return isAnswered && load.count('opaque', 401) > 5 && load.count('wrongly signed', 401) > 5;
    });
  };
  /**
   * Sends a review with gatecar's own credential from the file: its result shows whether gatecar
   * should be able to review.
   */
  const reviewsSucceed = async () => {
    const token = await readFile(tokenFile, 'utf8');
    const spec = { token: tokens.newToken(), audiences };
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
    const path = '/apis/authentication.k8s.io/v1/tokenreviews';
    const reply = await api.request('POST', path, review, { token, timeoutMs: 2_000 }).catch(() => undefined);
    return (reply?.body.status as { authenticated?: boolean } | undefined)?.authenticated === true;
  };
  const outageIsVisible = async (load: Load) => {
    const before = load.count('new', 503);
    await until('new tokens get 503', async () => load.count('new', 503) > before + 3);
  };
  const hasRecovered = async (t: Test) => {
    await until('the API server answers reviews', reviewsSucceed);
    await assertRecovery(t, gatecar, tokens.newToken);
  };

  const warmUp = startLoad(gatecar);
  await allAnswered(warmUp);
  await pause(lastsMs);
  await assertNoWrongResponse(t, warmUp);
  const before = await resourcesOf(gatecar);

  /** Runs `breaks` and `fixes` under load. */
  const testFailure = async (name: string, breaks: () => Promise<unknown>, fixes: () => Promise<unknown> | unknown) => {
    await t.test(name, async t => {
      const load = startLoad(gatecar);
      t.teardown(() => load.stop());
      await allAnswered(load);
      await breaks();
      await outageIsVisible(load);
      await pause(lastsMs);
      await fixes();
      await hasRecovered(t);
      const [cached, uncached] = [load.count('cached', 200), load.count('new', 200)];
      await until('cached and new tokens pass', async () => {
        return load.count('cached', 200) > cached + 5 && load.count('new', 200) > uncached + 5;
      });
      await assertNoWrongResponse(t, load);
      await assertNoMoreResources(t, gatecar, before, maxConcurrency);
    });
  };

  t.teardown(() => api.resume());
  await testFailure(
    'API server paused and resumed',
    () => api.pause(),
    () => api.resume(),
  );
  await testFailure(
    'API server killed and started again',
    () => api.kill(),
    () => api.up(),
  );
  await testFailure(
    'API server stopped, and back with another certificate',
    () => api.down(),
    () => api.restart({ newCertificate: true }),
  );
  await testFailure(
    'API server stopped, and back with another CA',
    () => api.down(),
    () => api.restart({ newAuthority: true }),
  );
  await testFailure(
    'gatecar’s right is removed and granted again',
    () => api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview'),
    applyRbac,
  );
  await testFailure(
    'gatecar’s ServiceAccount is deleted, and created again with a new token',
    () => api.deleteServiceAccount('gatecar', 'gatecar'),
    async () => {
      await applyRbac();
      await renewToken();
    },
  );

  await t.test('API server emptied: no earlier token passes after its cached result has expired', async t => {
    const oldLoad = startLoad(gatecar);
    t.teardown(() => oldLoad.stop());
    await allAnswered(oldLoad);
    const oldTokens = tokens;
    await api.restart({ emptied: true });
    await outageIsVisible(oldLoad);
    await assertNoWrongResponse(t, oldLoad);

    tokens = await tokensOf();
    const load = startLoad(gatecar);
    t.teardown(() => load.stop());
    await applyRbac();
    await renewToken();
    await hasRecovered(t);
    await until(
      'the cached token is rejected',
      async () => (await sendRequest(gatecar.auth, { token: oldLoad.cachedToken })).status === 401,
      cacheTtlMs + marginMs,
    );
    const answers = new Set<string>();
    for (let i = 0; i < 20; i += 1) {
      for (const token of [oldLoad.cachedToken, oldTokens.newToken()]) {
        const { status, headers } = await sendRequest(gatecar.auth, { token });
        answers.add(`${status} ${headers['x-gatecar-reason']}`);
      }
    }
    t.strictSame([...answers], ['401 token_rejected'], 'their account was replaced');
    await allAnswered(load);
    await assertNoWrongResponse(t, load);
    await assertNoMoreResources(t, gatecar, before, maxConcurrency);
  });

  await t.test(
    'stale-if-error: with the API server paused past the TTL, a cached token always passes and is marked',
    async t => {
      const withStale = await startGatecar(t, { ...gatecarSettings, GATECAR_CACHE_STALE_IF_ERROR: '60s' });
      const load = startLoad(withStale);
      t.teardown(() => load.stop());
      await allAnswered(load);
      await api.pause();
      await outageIsVisible(load);
      await until('a cached token is served past its TTL', async () => {
        const { status, headers } = await sendRequest(withStale.auth, { token: load.cachedToken });
        return status === 200 && Number(headers['x-gatecar-stale']) >= 1;
      });
      api.resume();
      await until('the API server answers reviews', reviewsSucceed);
      await assertRecovery(t, withStale, tokens.newToken);
      await until('a cached token is no longer marked', async () => {
        const { status, headers } = await sendRequest(withStale.auth, { token: load.cachedToken });
        return status === 200 && headers['x-gatecar-stale'] === undefined;
      });
      await assertNoWrongResponse(t, load);
      t.equal(load.count('cached', 503), 0, 'no cached token got 503');
    },
  );

  await t.test('after all failures gatecar holds no more resources than before', async t => {
    // Idle connections to the API server are closed after a minute.
    await assertNoMoreResources(t, gatecar, before, 2);
  });
});
