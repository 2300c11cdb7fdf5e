import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { metric } from '../fixtures/metrics.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { newTokens, reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { forEachConcurrently, jwksFetched } from './fixtures/support/concurrent-requests.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { until } from './fixtures/support/until.ts';

const MIB = 1024 * 1024;

t.setTimeout(startLimitMs);

t.test(
  '200,000 invalid tokens leave no memory in use and evict no valid result',
  { skip: skipWithout(kubeApiServerMissing() ?? wrkMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
    const newToken = newTokens(api, claims);
    const gatecar = await startGatecar(t, {
      ...settings,
      GATECAR_LOG_LEVEL: 'info',
      GATECAR_CACHE_TTL: '10m',
      // As in the image; on a large machine V8 collects so rarely that the memory would show
      // nothing.
      NODE_OPTIONS: '--max-old-space-size=128 --max-semi-space-size=8',
    });
    await jwksFetched(gatecar);
    const cachedTokens = Array.from({ length: 500 }, newToken);
    await forEachConcurrently(cachedTokens, 16, async (token, agent) =>
      t.equal((await sendRequest(gatecar.auth, { token, agent })).status, 200),
    );
    const rss = async () => Number(await metric(gatecar.ops, 'process_resident_memory_bytes')) / MIB;
    const before = await rss();
    const [head = '', payload = '', signature = ''] = newToken().split('.');
    let sent = 0;
    while (sent < 200_000) sent += await sendInvalidTokens(gatecar, ['forged', `${head}.${payload}`, signature]);
    sent += await sendInvalidTokens(gatecar, ['opaque']);
    t.comment(`${sent} invalid tokens; ${before.toFixed(0)} MiB before, ${(await rss()).toFixed(0)} MiB after`);
    await until('it holds less than 64 MiB more', async () => (await rss()) - before < 64, 10_000);
    await until('no invalid token is in review', async () => {
      const priority = async (state: string) =>
        await metric(gatecar.ops, `gatecar_reviews_${state}{priority="unverified"}`);
      return (await priority('in_flight')) + (await priority('queued')) === 0;
    });
    const reviews = await reviewsDuring(api, async () => {
      await forEachConcurrently(cachedTokens, 16, async (token, agent) =>
        t.equal((await sendRequest(gatecar.auth, { token, agent })).status, 200),
      );
    });
    t.equal(reviews, 0, 'valid results are still cached');
  },
);

function wrkMissing(): string | undefined {
  return spawnSync('wrk', ['--version']).error && 'install: wrk';
}

/**
 * Sends new invalid tokens over 64 connections for five seconds. @returns how many.
 */
async function sendInvalidTokens({ auth }: GatecarProcess, kind: readonly string[]): Promise<number> {
  const script = join(import.meta.dirname, '../../bench/invalid-tokens.lua');
  const args = ['-t1', '-c64', '-d5s', '-s', script, `${auth}/auth`, '--', ...kind];
  const { stdout } = await promisify(execFile)('wrk', args);
  return Number(/(\d+) requests in/.exec(stdout)?.[1]);
}
