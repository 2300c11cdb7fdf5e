import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { startCluster } from '../e2e/fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from '../e2e/fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from '../e2e/fixtures/support/kube-apiserver.ts';
import { skipWithout } from '../e2e/fixtures/support/missing-tools.ts';
import { ServiceAccountKeys } from '../e2e/fixtures/support/service-account-keys.ts';
import { until } from '../e2e/fixtures/support/until.ts';
import { ask } from '../fixtures/ask.ts';
import { Load, type Tokens } from './fixtures/load.ts';
import { HEAP, hasDoneNoWrong, heldBy, holdsNoMore, recovers } from './fixtures/recovery-assertions.ts';

// The real API server goes away in every way, under load. Nobody gets in who should not, a good token is never told no, and
// everything is as before as soon as the API server is.

const audiences = ['bindcar'];
const user = 'system:serviceaccount:apps:web';
const reviewTimeoutMs = 1_000;
/** For a machine that does other things as well. */
const marginMs = 2_000;
const cacheTtlMs = 3_000;
const maxConcurrency = 8;
/** How long what is wrong goes on under load: past what is remembered. */
const lastsMs = cacheTtlMs + 1_500;

t.setTimeout(startLimitMs);

t.test('chaos of the API server', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, tokenFile, settings, applyRbac, renewToken } = await startCluster(t);
  const otherKeys = await ServiceAccountKeys.generate();
  const tokensOf = async (): Promise<Tokens> => {
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: audiences });
    return {
      fresh: () => api.signToken({ ...claims, jti: randomUUID() }),
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
  const loadOn = ({ auth }: GatecarProcess) =>
    new Load({ auth, tokens, user, lateAfterMs: reviewTimeoutMs + marginMs });
  const atWork = async (load: Load) => {
    await until('every caller is answered', async () => {
      const isAnswered = load.count('known', 200) > 5 && load.count('fresh', 200) > 5;
      return isAnswered && load.count('opaque junk', 401) > 5 && load.count('wrongly signed', 401) > 5;
    });
  };
  /** With our own credential, as it is on the disk: what the API server says to it is what we are measured by. */
  const isAsked = async () => {
    const token = await readFile(tokenFile, 'utf8');
    const spec = { token: tokens.fresh(), audiences };
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
    const path = '/apis/authentication.k8s.io/v1/tokenreviews';
    const reply = await api.request('POST', path, review, { token, timeoutMs: 2_000 }).catch(() => undefined);
    return (reply?.body.status as { authenticated?: boolean } | undefined)?.authenticated === true;
  };
  const felt = async (load: Load) => {
    const before = load.count('fresh', 503);
    await until('new tokens are told 503', async () => load.count('fresh', 503) > before + 3);
  };
  const isBack = async (t: Test) => {
    await until('the API server answers us', isAsked);
    await recovers(t, gatecar, tokens.fresh);
  };

  const warm = loadOn(gatecar);
  await atWork(warm);
  await pause(lastsMs);
  await hasDoneNoWrong(t, warm);
  const before = await heldBy(gatecar);

  /** `breaks` and `fixes`, each while requests come in. */
  const chaos = async (name: string, breaks: () => Promise<unknown>, fixes: () => Promise<unknown> | unknown) => {
    await t.test(name, async t => {
      const load = loadOn(gatecar);
      t.teardown(() => load.stop());
      await atWork(load);
      await breaks();
      await felt(load);
      await pause(lastsMs);
      await fixes();
      await isBack(t);
      const [known, fresh] = [load.count('known', 200), load.count('fresh', 200)];
      await until('known and new tokens pass', async () => {
        return load.count('known', 200) > known + 5 && load.count('fresh', 200) > fresh + 5;
      });
      await hasDoneNoWrong(t, load);
      await holdsNoMore(t, gatecar, before, maxConcurrency);
    });
  };

  t.teardown(() => api.resume());
  await chaos(
    'paused, and it goes on',
    () => api.pause(),
    () => api.resume(),
  );
  await chaos(
    'killed, and started again',
    () => api.kill(),
    () => api.up(),
  );
  await chaos(
    'stopped, and back with another certificate',
    () => api.down(),
    () => api.restart({ newCertificate: true }),
  );
  await chaos(
    'stopped, and back with another authority',
    () => api.down(),
    () => api.restart({ newAuthority: true }),
  );
  await chaos(
    'our permission is taken away, and given again',
    () => api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview'),
    applyRbac,
  );
  await chaos(
    'our ServiceAccount is deleted, and made again with a new token',
    () => api.deleteServiceAccount('gatecar', 'gatecar'),
    async () => {
      await applyRbac();
      await renewToken();
    },
  );

  await t.test('its data is gone: no token of before passes once what was known has run out', async t => {
    const old = loadOn(gatecar);
    t.teardown(() => old.stop());
    await atWork(old);
    const oldTokens = tokens;
    await api.restart({ emptied: true });
    await felt(old);
    await hasDoneNoWrong(t, old);

    tokens = await tokensOf();
    const load = loadOn(gatecar);
    t.teardown(() => load.stop());
    await applyRbac();
    await renewToken();
    await isBack(t);
    await until(
      'the token that was known is refused',
      async () => (await ask(gatecar.auth, { token: old.known })).status === 401,
      cacheTtlMs + marginMs,
    );
    const answers = new Set<string>();
    for (let asked = 0; asked < 20; asked += 1) {
      for (const token of [old.known, oldTokens.fresh()]) {
        const { status, headers } = await ask(gatecar.auth, { token });
        answers.add(`${status} ${headers['x-gatecar-reason']}`);
      }
    }
    t.strictSame([...answers], ['401 token_rejected'], 'their account is another one now');
    await atWork(load);
    await hasDoneNoWrong(t, load);
    await holdsNoMore(t, gatecar, before, maxConcurrency);
  });

  await t.test('with grace: paused past the TTL, what is known is served all the time, and marked', async t => {
    const gracious = await startGatecar(t, { ...gatecarSettings, GATECAR_CACHE_STALE_IF_ERROR: '60s' });
    const load = loadOn(gracious);
    t.teardown(() => load.stop());
    await atWork(load);
    await api.pause();
    await felt(load);
    await until('what is known is served past its TTL', async () => {
      const { status, headers } = await ask(gracious.auth, { token: load.known });
      return status === 200 && Number(headers['x-gatecar-stale']) >= 1;
    });
    api.resume();
    await until('the API server answers us', isAsked);
    await recovers(t, gracious, tokens.fresh);
    await until('what is known is no more marked', async () => {
      const { status, headers } = await ask(gracious.auth, { token: load.known });
      return status === 200 && headers['x-gatecar-stale'] === undefined;
    });
    await hasDoneNoWrong(t, load);
    t.equal(load.count('known', 503), 0, 'no known token was told that nobody can be asked');
  });

  await t.test('after all of it, it holds what it held', async t => {
    // Idle connections to the API server are closed after a minute.
    await holdsNoMore(t, gatecar, before, 2);
  });
});
