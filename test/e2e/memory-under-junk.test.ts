import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { metric } from '../fixtures/metrics.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { each, keysRead } from './fixtures/support/concurrent-requests.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { until } from './fixtures/support/until.ts';

const MIB = 1024 * 1024;

t.setTimeout(startLimitMs);

t.test(
  '200,000 junk tokens leave neither memory taken nor good results lost',
  { skip: skipWithout(kubeApiServerMissing() ?? wrkMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
    let made = 0;
    const newToken = (): string => {
      made += 1;
      return api.signToken({ ...claims, jti: `${made}` });
    };
    const gatecar = await startGatecar(t, {
      ...settings,
      GATECAR_LOG_LEVEL: 'info',
      GATECAR_CACHE_TTL: '10m',
      // As the image has it; on a large machine V8 collects so seldom that memory tells nothing.
      NODE_OPTIONS: '--max-old-space-size=128 --max-semi-space-size=8',
    });
    await keysRead(gatecar);
    const known = Array.from({ length: 500 }, newToken);
    await each(known, 16, async (token, agent) => t.equal((await ask(gatecar.auth, { token, agent })).status, 200));
    const rss = async () => Number(await metric(gatecar.ops, 'process_resident_memory_bytes')) / MIB;
    const before = await rss();
    const [head = '', payload = '', signature = ''] = newToken().split('.');
    let sent = 0;
    while (sent < 200_000) sent += await junk(gatecar, ['forged', `${head}.${payload}`, signature]);
    sent += await junk(gatecar, ['opaque']);
    t.comment(`${sent} junk tokens; ${before.toFixed(0)} MiB before, ${(await rss()).toFixed(0)} MiB after`);
    await until('it holds less than 64 MiB more', async () => (await rss()) - before < 64, 10_000);
    await until('no junk is being asked about any more', async () => {
      const priority = async (state: string) =>
        await metric(gatecar.ops, `gatecar_reviews_${state}{priority="unverified"}`);
      return (await priority('in_flight')) + (await priority('queued')) === 0;
    });
    const reviews = await reviewsDuring(api, async () => {
      await each(known, 16, async (token, agent) => t.equal((await ask(gatecar.auth, { token, agent })).status, 200));
    });
    t.equal(reviews, 0, 'good results are still there');
  },
);

function wrkMissing(): string | undefined {
  return spawnSync('wrk', ['--version']).error && 'install: wrk';
}

/** Five seconds of tokens that were never seen before, from 64 connections. @returns how many. */
async function junk({ auth }: GatecarProcess, kind: readonly string[]): Promise<number> {
  const script = join(import.meta.dirname, '../../bench/junk.lua');
  const args = ['-t1', '-c64', '-d5s', '-s', script, `${auth}/auth`, '--', ...kind];
  const { stdout } = await promisify(execFile)('wrk', args);
  return Number(/(\d+) requests in/.exec(stdout)?.[1]);
}
