import { readFile } from 'node:fs/promises';
import { startCluster } from '../../test/e2e/fixtures/support/cluster.ts';
import { startAsker } from '../asker.ts';
import { countConnections } from '../connection-counter.ts';
import { startGatecar } from '../gatecar.ts';
import type { Bench, Scenario } from '../scenario.ts';
import { quantile, ratios } from '../statistics.ts';

/** One by one, what a review costs; with some at once, what it costs while others are under way. */
const AT_ONCE = [1, 8] as const;
/** Gatecar's default, and its bound of connections too. */
const BOUND = 32;
const REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';

export const miss: Scenario = {
  name: 'miss',
  about: 'a token that was never seen, on a real kube-apiserver',
  tools: ['kube-apiserver'],
  async run(bench) {
    const { api, settings, tokenFile } = await startCluster(bench);
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
    let made = 0;
    /** Signed here with the API server's own key: asked for them, it would have its hands full. */
    const fresh = (count: number) =>
      Array.from({ length: count }, () => {
        made += 1;
        return api.signToken({ ...claims, jti: `bench-${made}` });
      });

    const [credential, ca] = await Promise.all([readFile(tokenFile, 'utf8'), readFile(api.caFile, 'utf8')]);
    const gatecar = await startGatecar(bench, settings);
    const askers = [
      {
        name: 'bare TokenReview',
        kind: 'review',
        ask: await startAsker(bench, { url: api.url + REVIEWS, ca, credential }),
      },
      { name: 'gatecar', kind: 'auth', ask: await startAsker(bench, { url: `${gatecar.auth}/auth` }) },
    ] as const;
    for (const { kind, ask } of askers) await ask({ kind, tokens: fresh(bench.quick ? 20 : 500), atOnce: 8 });

    for (const atOnce of AT_ONCE) {
      const tokens = bench.quick ? 50 : atOnce === 1 ? 1_000 : 2_000;
      const took = new Map(askers.map(({ name }) => [name, { p50: [] as number[], p99: [] as number[] }]));
      for (let round = 0; round < bench.rounds; round += 1) {
        for (const { name, kind, ask } of round % 2 ? askers : askers.toReversed()) {
          const sorted = await ask({ kind, tokens: fresh(tokens), atOnce });
          took.get(name)?.p50.push(quantile(sorted, 0.5));
          took.get(name)?.p99.push(quantile(sorted, 0.99));
        }
      }
      for (const measure of ['p50', 'p99'] as const) {
        const reference = took.get('bare TokenReview')?.[measure] ?? [];
        for (const [name, { [measure]: values }] of took) {
          const what = `${measure}, ms, ${atOnce} at once`;
          if (name !== 'gatecar') bench.row({ what, by: name, values });
          else {
            const goal = { of: 'ratio', bound: '≤', limit: 1.15 } as const;
            bench.row({ what, by: name, values, ratios: ratios(values, reference), goal });
          }
        }
      }
    }
    await opensFewConnections(bench, settings, api, fresh);
  },
};

async function opensFewConnections(
  bench: Bench,
  settings: Readonly<Record<string, string>>,
  api: { readonly url: string; reviews(): Promise<number> },
  fresh: (count: number) => string[],
): Promise<void> {
  const count = bench.quick ? 300 : 10_000;
  const counter = await countConnections(bench, api.url);
  const GATECAR_KUBE_API_URL = `https://127.0.0.1:${counter.port}`;
  const gatecar = await startGatecar(bench, { ...settings, GATECAR_KUBE_API_URL });
  const ask = await startAsker(bench, { url: `${gatecar.auth}/auth` });
  const tokens = fresh(count);
  const before = await api.reviews();
  // What the start has opened, for the readiness probe and the cluster's keys, is used again.
  const open = counter.accepted;
  await ask({ kind: 'auth', tokens, atOnce: 64 });
  bench.check(`${count} misses are ${count} reviews`, (await api.reviews()) - before === count);
  const opened = counter.accepted - open;
  bench.check(`and open at most ${BOUND} connections`, opened > 0 && opened <= BOUND);
  bench.row({
    what: 'connections opened',
    by: `gatecar, ${count} misses`,
    values: [opened],
    goal: { of: 'value', bound: '≤', limit: BOUND },
  });
}
