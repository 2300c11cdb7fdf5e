import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { startCluster } from '../../test/e2e/fixtures/support/cluster.ts';
import { ask } from '../../test/fixtures/ask.ts';
import { startGatecar } from '../gatecar.ts';
import { wrk } from '../load.ts';
import type { Scenario } from '../scenario.ts';
import { quantile, ratios } from '../statistics.ts';

/** Time between two requests of each kind of token, in milliseconds. */
const KNOWN_EVERY_MS = 5;
const FRESH_EVERY_MS = 50;
/** Time in which the invalid tokens' client opens its connections, in milliseconds. */
const HEAD_START_MS = 500;

type Junk = 'none' | 'forged' | 'opaque';

interface Latencies {
  readonly known: number[];
  readonly fresh: number[];
}

export const flood: Scenario = {
  name: 'flood',
  about: 'what 64 connections of junk do to good tokens, on a real kube-apiserver',
  tools: ['wrk', 'kube-apiserver'],
  byNameOnly: true,
  async run(bench) {
    const { api, settings } = await startCluster(bench);
    await api.createServiceAccount('apps', 'web');
    const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
    let made = 0;
    /**
     * Signed here with the API server's own key: requesting thousands of tokens would load the API
     * server.
     */
    const freshToken = () => {
      made += 1;
      return api.signToken({ ...claims, jti: `bench-${made}` });
    };
    const gatecar = await startGatecar(bench, settings);
    const known = freshToken();
    const [head = '', payload = '', signature = ''] = freshToken().split('.');
    const scripts = {
      none: undefined,
      forged: ['junk.lua', 'forged', `${head}.${payload}`, signature],
      opaque: ['junk.lua', 'opaque'],
    } as const;
    const seconds = bench.quick ? 3 : 2 * bench.seconds;
    let failures = 0;

    const measure = async (junk: Junk): Promise<Latencies & { readonly ofJunk: number }> => {
      const agent = new Agent({ keepAlive: true });
      const before = await api.reviews();
      const script = scripts[junk];
      const load = { url: `${gatecar.auth}/auth`, connections: 64, seconds: seconds + 1, anyAnswer: true };
      const flooding = script && wrk({ ...load, script: [...script] });
      await sleep(HEAD_START_MS);
      const end = performance.now() + seconds * 1000;
      const probe = async (token: () => string, everyMs: number, into: number[]): Promise<void> => {
        while (performance.now() < end) {
          const one = token();
          const start = performance.now();
          const { status } = await ask(gatecar.auth, { token: one, agent });
          into.push(performance.now() - start);
          if (status !== 200) failures += 1;
          await sleep(everyMs);
        }
      };
      const found: Latencies = { known: [], fresh: [] };
      await Promise.all([
        probe(() => known, KNOWN_EVERY_MS, found.known),
        probe(freshToken, FRESH_EVERY_MS, found.fresh),
      ]);
      await flooding;
      agent.destroy();
      return { ...found, ofJunk: (await api.reviews()) - before - found.fresh.length };
    };

    await measure('none');
    const rounds: Record<Junk, Latencies[]> = { none: [], forged: [], opaque: [] };
    let reviewsOfForged = 0;
    for (let round = 0; round < bench.rounds; round += 1) {
      for (const junk of ['none', 'forged', 'opaque'] as const) {
        const { ofJunk, ...latencies } = await measure(junk);
        rounds[junk].push(latencies);
        if (junk === 'forged') reviewsOfForged += ofJunk;
      }
    }
    for (const [kind, name, part] of [
      ['known', 'p50', 0.5],
      ['known', 'p99', 0.99],
      ['fresh', 'p50', 0.5],
      ['fresh', 'p99', 0.99],
    ] as const) {
      const values = (junk: Junk) => rounds[junk].map(one => quantile(one[kind], part));
      const what = `${kind} tokens, ${name}, ms`;
      bench.row({ what, by: 'no junk', values: values('none') });
      for (const junk of ['forged', 'opaque'] as const) {
        bench.row({ what, by: `${junk} junk`, values: values(junk), ratios: ratios(values(junk), values('none')) });
      }
    }
    bench.check('each good token is answered 200', failures === 0);
    bench.check('nobody is asked about forged ones', reviewsOfForged <= 0);
  },
};
