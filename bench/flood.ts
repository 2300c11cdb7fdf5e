// What 64 connections of junk do to everybody else, on a real kube-apiserver: the latency of known and of fresh good tokens, as a
// ratio to what they take when nobody else asks.
//
//   npm run bench:flood                 five rounds of ten seconds each
//   npm run bench:flood -- --quick      one round of three seconds: is every good token answered, and no forged one asked about?
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startCluster } from '../test/e2e/fixtures/support/cluster.ts';
import { ask } from '../test/fixtures/ask.ts';
import { LOAD_CORE, median, startServer, stopServer } from './measure.ts';

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } });
const rounds = options.quick ? 1 : 5;
const seconds = options.quick ? 3 : 10;

/** How often each kind of token is asked about, in milliseconds. */
const KNOWN_EVERY_MS = 5;
const FRESH_EVERY_MS = 50;

type Junk = 'forged' | 'opaque';

interface Latencies {
  readonly known: number[];
  readonly fresh: number[];
  readonly reviews: number;
  readonly junk: number;
}

const teardowns: (() => unknown)[] = [];
const { api, settings } = await startCluster({ teardown: (undo: () => unknown) => teardowns.push(undo) });
try {
  await api.createServiceAccount('apps', 'web');
  const claims = await api.claimsFor('apps', 'web', { aud: ['bindcar'] });
  let made = 0;
  /** Signed here with the API server's own key, since asking it for thousands would be a load of its own. */
  const freshToken = () => {
    made += 1;
    return api.signToken({ ...claims, jti: `bench-${made}` });
  };
  const gatecar = await startServer('gatecar', ['src/main.ts', 'serve'], {
    env: {
      ...settings,
      GATECAR_LISTEN: '127.0.0.1:0',
      GATECAR_OPS_LISTEN: '127.0.0.1:0',
      GATECAR_SHUTDOWN_DELAY: '0s',
      GATECAR_CACHE_TTL: '10m',
    },
    ready: line => (line.includes('"listening"') ? `http://${JSON.parse(line).auth}` : undefined),
  });
  teardowns.push(() => stopServer(gatecar));
  const known = freshToken();
  const [head = '', payload = '', signature = ''] = freshToken().split('.');

  const measure = async (junk: Junk | undefined): Promise<Latencies> => {
    const agent = new Agent({ keepAlive: true });
    const before = await api.reviews();
    const flood = junk && flooding(gatecar.url, junk, `${head}.${payload}`, signature);
    await sleep(500);
    const end = performance.now() + seconds * 1000;
    const timed = async (token: string, into: number[]): Promise<void> => {
      const start = performance.now();
      const { status } = await ask(gatecar.url, { token, agent });
      into.push(performance.now() - start);
      if (status !== 200) failures += 1;
    };
    let failures = 0;
    const found: Latencies = { known: [], fresh: [], reviews: 0, junk: 0 };
    const probe = async (token: () => string, everyMs: number, into: number[]): Promise<void> => {
      while (performance.now() < end) {
        await timed(token(), into);
        await sleep(everyMs);
      }
    };
    await Promise.all([
      probe(() => known, KNOWN_EVERY_MS, found.known),
      probe(freshToken, FRESH_EVERY_MS, found.fresh),
    ]);
    const sent = (await flood?.stop()) ?? 0;
    agent.destroy();
    const reviews = (await api.reviews()) - before - found.fresh.length;
    if (failures > 0) say(`${failures} good tokens were not answered with 200`);
    if (failures > 0 || (junk !== 'opaque' && reviews > 0)) process.exitCode = 1;
    return { ...found, reviews, junk: sent };
  };

  await measure(undefined);
  const results = new Map<Junk, { known: number[]; fresh: number[]; fresh99: number[] }>();
  for (let round = 0; round < rounds; round += 1) {
    const quiet = await measure(undefined);
    say(
      `quiet: known p50 ${quantile(quiet.known, 0.5)} p99 ${quantile(quiet.known, 0.99)}, fresh p50 ${quantile(quiet.fresh, 0.5)} p99 ${quantile(quiet.fresh, 0.99)}`,
    );
    for (const junk of ['forged', 'opaque'] as const) {
      const flooded = await measure(junk);
      const ratio = (which: 'known' | 'fresh', q: number) =>
        Number((quantile(flooded[which], q) / quantile(quiet[which], q)).toFixed(2));
      say(
        `${junk}: ${Math.round(flooded.junk / seconds)} junk/s, ${flooded.reviews} reviews of it; known p50 ${quantile(flooded.known, 0.5)} p99 ${quantile(flooded.known, 0.99)} (${ratio('known', 0.99)}×), fresh p50 ${quantile(flooded.fresh, 0.5)} (${ratio('fresh', 0.5)}×) p99 ${quantile(flooded.fresh, 0.99)} (${ratio('fresh', 0.99)}×)`,
      );
      const entry = results.get(junk) ?? { known: [], fresh: [], fresh99: [] };
      results.set(junk, entry);
      entry.known.push(ratio('known', 0.99));
      entry.fresh.push(ratio('fresh', 0.5));
      entry.fresh99.push(ratio('fresh', 0.99));
    }
  }
  say('| junk | known p99 ratio | fresh median ratio | fresh p99 ratio |\n|---|---|---|---|');
  for (const [junk, { known, fresh, fresh99 }] of results)
    say(`| ${junk} | ${median(known)} | ${median(fresh)} | ${median(fresh99)} |`);
} finally {
  for (const undo of teardowns.reverse()) await undo();
}

function flooding(url: string, junk: Junk, head: string, signature: string) {
  const args = junk === 'forged' ? ['forged', head, signature] : ['opaque'];
  const child = spawn(
    'taskset',
    [
      '-c',
      LOAD_CORE,
      'wrk',
      '-t1',
      '-c64',
      `-d${seconds + 1}s`,
      '-s',
      join(import.meta.dirname, 'junk.lua'),
      `${url}/auth`,
      '--',
      ...args,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', chunk => {
    output += chunk;
  });
  const closed = once(child, 'close');
  return {
    async stop(): Promise<number> {
      await closed;
      return Number(/(\d+) requests in/.exec(output)?.[1]);
    },
  };
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Number((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN).toFixed(2));
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
