import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { startCluster } from '../../test/e2e/fixtures/support/cluster.ts';
import type { KubeApiServer } from '../../test/e2e/fixtures/support/kube-apiserver.ts';
import { sendRequest } from '../../test/fixtures/send-request.ts';
import { startGatecar, WITH_GRPC } from '../gatecar.ts';
import { envoy, nginx, startApplication } from '../gateways.ts';
import { wrk } from '../load.ts';
import type { Bench, Goal, Scenario } from '../scenario.ts';
import { quantile, ratios } from '../statistics.ts';

/** Time between two requests of each kind of valid token, in milliseconds. */
const CACHED_EVERY_MS = 5;
const FRESH_EVERY_MS = 50;
/** Time in which the invalid tokens' client opens its connections, in milliseconds. */
const HEAD_START_MS = 500;
/**
 * Reviews in all rounds with forged tokens: a long run refreshes the cached token, and a review may
 * find keys that are not confirmed.
 */
const MAX_FORGED_REVIEWS = 5;

const INVALID = ['forged', 'opaque'] as const;

type Flood = 'none' | (typeof INVALID)[number];

/** Response times of valid tokens, in milliseconds. */
interface Latencies {
  readonly cached: number[];
  readonly fresh: number[];
}

const MEASURES: readonly (readonly [keyof Latencies, string, number, Goal?])[] = [
  ['cached', 'p50', 0.5],
  ['cached', 'p99', 0.99, { of: 'ratio', bound: '≤', limit: 1.5 }],
  ['fresh', 'p50', 0.5, { of: 'ratio', bound: '≤', limit: 2 }],
  ['fresh', 'p99', 0.99],
];

export const flood: Scenario = {
  name: 'flood',
  about:
    'how 64 connections with invalid tokens slow valid ones, with a real kube-apiserver, directly and through gateways',
  tools: ['wrk', 'kube-apiserver', 'nginx', 'envoy'],
  byNameOnly: true,
  async run(bench) {
    const { api, settings } = await startCluster(bench);
    const freshToken = await tokenSource(api);
    const fronts = await startFronts(bench, settings);
    const cached = freshToken();
    const [head = '', payload = '', signature = ''] = freshToken().split('.');
    const scripts: Record<Flood, readonly [string, ...string[]] | undefined> = {
      none: undefined,
      forged: ['invalid-tokens.lua', 'forged', `${head}.${payload}`, signature],
      opaque: ['invalid-tokens.lua', 'opaque'],
    };
    const seconds = bench.quick ? 3 : 2 * bench.seconds;
    let failures = 0;
    let forgedReviews = 0;

    const measure = async (url: string, kind: Flood): Promise<Latencies> => {
      const agent = new Agent({ keepAlive: true });
      const before = await api.reviews();
      const script = scripts[kind];
      const flooding = script && wrk({ url, connections: 64, seconds: seconds + 1, anyAnswer: true, script });
      await sleep(HEAD_START_MS);
      const end = performance.now() + seconds * 1000;
      const probe = async (token: () => string, everyMs: number, into: number[]): Promise<void> => {
        while (performance.now() < end) {
          const one = token();
          const start = performance.now();
          const { status } = await sendRequest(url, { path: new URL(url).pathname, token: one, agent });
          into.push(performance.now() - start);
          if (status !== 200) failures += 1;
          await sleep(everyMs);
        }
      };
      const found: Latencies = { cached: [], fresh: [] };
      await Promise.all([
        probe(() => cached, CACHED_EVERY_MS, found.cached),
        probe(freshToken, FRESH_EVERY_MS, found.fresh),
      ]);
      await flooding;
      agent.destroy();
      if (kind === 'forged') forgedReviews += (await api.reviews()) - before - found.fresh.length;
      return found;
    };

    for (const { url } of fronts) await measure(url, 'none');
    for (let round = 0; round < bench.rounds; round += 1) {
      for (const kind of ['none', ...INVALID] as const) {
        for (const { url, rounds } of fronts) rounds[kind].push(await measure(url, kind));
      }
    }
    for (const front of fronts) report(bench, front);
    bench.check('each valid token gets 200', failures === 0);
    bench.check('forged tokens cost at most five reviews', forgedReviews <= MAX_FORGED_REVIEWS);
  },
};

/** A URL through which gatecar is measured, and its results. */
interface Front {
  readonly name: string;
  readonly url: string;
  readonly rounds: Readonly<Record<Flood, Latencies[]>>;
}

/** Starts gatecar, and gateways in front of it with the configurations of the examples. */
async function startFronts(bench: Bench, settings: Readonly<Record<string, string>>): Promise<Front[]> {
  const gatecar = await startGatecar(bench, { ...settings, ...WITH_GRPC });
  const application = await startApplication(bench);
  const throughNginx = await nginx(bench, new URL(gatecar.auth).host, application);
  const throughEnvoy = await envoy('envoy-grpc')(bench, new URL(gatecar.grpc).host, application);
  const front = (name: string, url: string): Front => ({ name, url, rounds: { none: [], forged: [], opaque: [] } });
  return [
    front('directly', `${gatecar.auth}/auth`),
    front('through nginx', `${throughNginx}/zones`),
    front('through Envoy over gRPC', `${throughEnvoy}/zones`),
  ];
}

/**
 * Returns a function that makes valid tokens. They are signed here with the API server's own key:
 * requesting thousands of tokens would load the API server.
 */
async function tokenSource(api: KubeApiServer): Promise<() => string> {
  await api.createServiceAccount('apps', 'web');
  const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
  let made = 0;
  return () => {
    made += 1;
    return api.signToken({ ...claims, jti: `bench-${made}` });
  };
}

function report(bench: Bench, { name, rounds }: Front): void {
  for (const [kind, quantileName, part, goal] of MEASURES) {
    const values = (flood: Flood) => rounds[flood].map(one => quantile(one[kind], part));
    const what = `${kind} tokens, ${quantileName}, ms, ${name}`;
    bench.row({ what, by: 'no flood', values: values('none') });
    for (const flood of INVALID) {
      const compared = ratios(values(flood), values('none'));
      bench.row({ what, by: `${flood} tokens`, values: values(flood), ratios: compared, ...(goal && { goal }) });
    }
  }
}
