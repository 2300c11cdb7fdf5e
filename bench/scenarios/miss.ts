import { readFile } from 'node:fs/promises';
import { startCluster } from '../../test/e2e/fixtures/support/cluster.ts';
import { startTcpCounter } from '../../test/e2e/fixtures/support/tcp-counter.ts';
import { startBare } from '../baseline.ts';
import { startGatecar } from '../gatecar.ts';
import { type Asker, startAsker } from '../load-client.ts';
import type { Bench, Scenario } from '../scenario.ts';
import type { Job } from '../servers/asker.ts';
import { quantile, ratios } from '../statistics.ts';

/** Concurrency: 1 measures a single review; 8 measures it while others are in flight. */
const AT_ONCE = [1, 8] as const;
/** gatecar's default concurrency limit, which also limits its connections. */
const BOUND = 32;
/** Number of requests until all code is compiled and the caches are filled. */
const WARM_UP = 2_000;
/** Number of measurements of each contender in each round. */
const TURNS = 5;
const MEASURES = ['p50', 'p99'] as const;
const GOAL = { of: 'ratio', bound: '≤', limit: 1.15 } as const;
const REVIEW = 'bare TokenReview';
const RELAY = 'bare relay';
const GATECAR = 'gatecar';
const REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';

interface Contender {
  readonly name: string;
  readonly kind: Job['kind'];
  readonly ask: Asker;
}

export const miss: Scenario = {
  name: 'miss',
  about: 'an uncached token, with a real kube-apiserver',
  tools: ['kube-apiserver'],
  async run(bench) {
    const { api, settings, tokenFile } = await startCluster(bench);
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
    let made = 0;
    /**
     * Signed here with the API server's own key: requesting these tokens would overload the API
     * server.
     */
    const fresh = (count: number) =>
      Array.from({ length: count }, () => {
        made += 1;
        return api.signToken({ ...claims, jti: `bench-${made}` });
      });

    const [credential, ca] = await Promise.all([readFile(tokenFile, 'utf8'), readFile(api.caFile, 'utf8')]);
    const url = api.url + REVIEWS;
    const relay = await startBare(bench, RELAY, 'relay.ts', JSON.stringify({ url, ca, credential }));
    const gatecar = await startGatecar(bench, settings);
    const contenders: readonly Contender[] = [
      { name: REVIEW, kind: 'review', ask: await startAsker(bench, { url, ca, credential }) },
      { name: RELAY, kind: 'auth', ask: await startAsker(bench, { url: `${relay.url}/auth` }) },
      { name: GATECAR, kind: 'auth', ask: await startAsker(bench, { url: `${gatecar.auth}/auth` }) },
    ];
    for (const atOnce of AT_ONCE) {
      for (const { kind, ask } of contenders) await ask({ kind, tokens: fresh(bench.quick ? 20 : WARM_UP), atOnce });
    }
    for (const atOnce of AT_ONCE) report(bench, atOnce, await takeTurns(bench, contenders, fresh, atOnce));
    await opensFewConnections(bench, settings, api, fresh);
  },
};

/** Response times of each contender in each round. */
type Taken = ReadonlyMap<string, Readonly<Record<Measure, number[]>>>;
type Measure = (typeof MEASURES)[number];

/**
 * Measures the contenders alternately with a few tokens each. Disturbances of the machine last
 * longer than one measurement, so they affect all contenders alike.
 */
async function takeTurns(
  bench: Bench,
  contenders: readonly Contender[],
  fresh: (count: number) => string[],
  atOnce: number,
): Promise<Taken> {
  const taken = new Map(contenders.map(({ name }) => [name, { p50: [] as number[], p99: [] as number[] }]));
  const turns = contenders.map(contender => ({ contender, took: [] as number[] }));
  const tokens = bench.quick ? 50 : atOnce === 1 ? 200 : 500;
  for (let round = 0; round < bench.rounds; round += 1) {
    for (let turn = 0; turn < (bench.quick ? 1 : TURNS); turn += 1) {
      for (const { contender, took } of turns) {
        const { kind, ask } = contender;
        took.push(...(await ask({ kind, tokens: fresh(tokens), atOnce })));
      }
      turns.reverse();
    }
    for (const { contender, took } of turns) {
      taken.get(contender.name)?.p50.push(quantile(took, 0.5));
      taken.get(contender.name)?.p99.push(quantile(took, 0.99));
      took.length = 0;
    }
  }
  return taken;
}

/**
 * Reports each measure. The relay shows the cost of any extra hop on this machine, so the ratio to
 * the relay shows gatecar's own part.
 */
function report(bench: Bench, atOnce: number, taken: Taken): void {
  for (const measure of MEASURES) {
    const what = `${measure}, ms, concurrency ${atOnce}`;
    const of = (name: string) => taken.get(name)?.[measure] ?? [];
    const [review, relay, values] = [of(REVIEW), of(RELAY), of(GATECAR)];
    bench.row({ what, by: REVIEW, values: review });
    bench.row({ what, by: RELAY, values: relay, ratios: ratios(relay, review) });
    bench.row({ what, by: `${GATECAR}, to the relay`, values, ratios: ratios(values, relay) });
    bench.row({ what, by: GATECAR, values, ratios: ratios(values, review), goal: GOAL });
  }
}

async function opensFewConnections(
  bench: Bench,
  settings: Readonly<Record<string, string>>,
  api: { readonly url: string; reviews(): Promise<number>; disconnect(): void },
  fresh: (count: number) => string[],
): Promise<void> {
  const count = bench.quick ? 300 : 10_000;
  const counter = await startTcpCounter(bench, api.url, { isRecording: false });
  const GATECAR_KUBE_API_URL = `https://127.0.0.1:${counter.port}`;
  const gatecar = await startGatecar(bench, { ...settings, GATECAR_KUBE_API_URL });
  const ask = await startAsker(bench, { url: `${gatecar.auth}/auth` });
  const tokens = fresh(count);
  // Drops the idle connections, as the API server does after its own idle timeout.
  api.disconnect();
  const before = await api.reviews();
  // The connections that gatecar opened at start, for the readiness probe and the JWKS, are reused.
  const open = counter.connections;
  await ask({ kind: 'auth', tokens, atOnce: 64 });
  bench.check(`${count} misses are ${count} reviews`, (await api.reviews()) - before === count);
  const opened = counter.connections - open;
  bench.check(`and open at most ${BOUND} connections`, opened > 0 && opened <= BOUND);
  bench.row({
    what: 'connections opened',
    by: `gatecar, ${count} misses`,
    values: [opened],
    goal: { of: 'value', bound: '≤', limit: BOUND },
  });
}
