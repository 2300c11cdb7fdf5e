import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { cacheLookups, metric } from '../fixtures/metrics.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { until } from './fixtures/support/until.ts';

// gatecar's clock differs from that of a real API server. Only gatecar's process has a shifted
// clock.

const audiences = ['bindcar'];
const SHIFT = join(import.meta.dirname, 'fixtures/support/shifted-clock.ts');
const SKEW_LINE = 'clock skew: token times are not checked locally';

t.setTimeout(startLimitMs);

t.test('gatecar with a skewed clock', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const claims = await api.claimsFor('apps', 'web', { aud: audiences });
  /** Signs a token like the API server, with these times in seconds from now. */
  const token = (from: number, to: number): string => {
    const now = Math.floor(Date.now() / 1000);
    return api.signToken({ ...claims, iat: now + from, nbf: now + from, exp: now + to, jti: randomUUID() });
  };
  const start = (t: Test, skewSeconds: number, extra: Record<string, string> = {}) =>
    startGatecar(t, {
      ...settings,
      NODE_OPTIONS: `--import=${SHIFT}`,
      SHIFTED_CLOCK_MS: String(skewSeconds * 1000),
      ...extra,
    });
  const status = async (gatecar: GatecarProcess, bearer: string) =>
    (await sendRequest(gatecar.auth, { token: bearer })).status;

  for (const skewSeconds of [-600, -300, -95, -31, -10, 0, 10, 31, 95, 300, 900, 1200]) {
    t.test(`clock skew of ${skewSeconds} s: no valid token is rejected, and no other passes`, async t => {
      const gatecar = await start(t, skewSeconds);
      for (let time = 0; time < 3; time += 1) {
        const newToken = await api.requestToken('apps', 'web', { audiences });
        t.equal(await status(gatecar, newToken), 200, 'new token');
        t.equal(await status(gatecar, token(0, 600)), 200, 'short-lived');
        t.equal(await status(gatecar, token(-3600, 20)), 200, 'about to expire');
        t.equal(await status(gatecar, token(50, 3600)), 200, "not valid yet, within the API server's leeway");
        t.equal(await status(gatecar, token(-3600, -50)), 200, "expired, within the API server's leeway");
        t.equal(await status(gatecar, token(-3600, -62)), 401, 'expired');
        t.equal(await status(gatecar, token(70, 3600)), 401, 'not valid yet');
      }
      const skew = await metric(gatecar.ops, 'gatecar_clock_skew_seconds');
      t.ok(Math.abs(skew - skewSeconds) <= 1, `${skew} s are reported`);
      const lines = (await gatecar.logs()).filter(({ msg }) => msg === SKEW_LINE);
      t.equal(lines.length, Math.abs(skewSeconds) > 30 ? 1 : 0, 'a large skew is logged once');
    });
  }

  t.test('without clock skew, expired and wrongly signed tokens cost no review', async t => {
    const gatecar = await start(t, 0);
    t.equal(await status(gatecar, token(0, 600)), 200);
    await until('the JWKS is fetched', async () => (await metric(gatecar.ops, 'gatecar_jwks_available')) === 1);
    const reviews = await reviewsDuring(api, async () => {
      for (let time = 0; time < 50; time += 1) {
        t.equal(await status(gatecar, token(-3600, -100)), 401, 'expired');
        t.equal(await status(gatecar, token(100, 3600)), 401, 'not valid yet');
        t.equal(await status(gatecar, `${token(0, 3600).slice(0, -40)}${'A'.repeat(40)}`), 401, 'wrongly signed');
      }
    });
    t.equal(reviews, 0);
  });

  for (const skewSeconds of [-600, 1200]) {
    t.test(
      `clock skew of ${skewSeconds} s: a cached result expires with its token, not before and not after`,
      async t => {
        const gatecar = await start(t, skewSeconds, { GATECAR_CACHE_TTL: '10m' });
        const bearer = token(0, 4);
        const exp = Math.floor(Date.now() / 1000) + 4;
        t.equal(await status(gatecar, bearer), 200);
        const cached = await reviewsDuring(api, async () => {
          for (let time = 0; time < 20; time += 1) t.equal(await status(gatecar, bearer), 200);
        });
        t.equal(cached, 0, 'the result is cached');
        const misses = () => cacheLookups(gatecar.ops, 'miss');
        const before = await misses();
        await until('the token is reviewed again', async () => {
          t.equal(await status(gatecar, bearer), 200, "within the API server's leeway");
          return (await misses()) > before;
        });
        const lateMs = Date.now() - exp * 1000;
        t.ok(lateMs > -2000 && lateMs < 1000, `${lateMs} ms after the token’s expiry`);
      },
    );
  }
});
