// The hot path: cached decisions a second, as a ratio to bare node:http with the same response head in the same run.
//
//   npm run bench                 five rounds of five seconds
//   npm run bench -- --quick      one round of one second: does it work, and was there one review?
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { startDevAuthority } from '../src/dev/authority.ts';
import { tokenIssuer } from '../src/dev/token-issuer.ts';
import { load, type Measured, median, startServer, stopServer } from './measure.ts';

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } });
const rounds = options.quick ? 1 : 5;
const seconds = options.quick ? 1 : 5;

const issuer = tokenIssuer();
const authority = await startDevAuthority({ issuer });
const token = issuer.issue({
  namespace: 'default',
  serviceAccount: 'my-app',
  audiences: ['bindcar'],
  pod: 'p',
  node: 'n',
});
const authorization = `Authorization: Bearer ${token}`;
const started: Measured[] = [];

try {
  const gatecar = await start('gatecar', ['src/main.ts', 'serve'], {
    env: {
      GATECAR_LISTEN: '127.0.0.1:0',
      GATECAR_OPS_LISTEN: '127.0.0.1:0',
      GATECAR_KUBE_API_URL: authority.url,
      GATECAR_SHUTDOWN_DELAY: '0s',
      // No verdict ends during a run: what is measured is the hit.
      GATECAR_CACHE_TTL: '10m',
    },
    ready: line => (line.includes('"listening"') ? `http://${JSON.parse(line).auth}/auth` : undefined),
  });
  const head = await responseHead(gatecar.url);
  const bare = await start('bare node:http', ['bench/servers/bare-http.ts'], {
    input: JSON.stringify(head),
    ready: line => `http://127.0.0.1:${line}/auth`,
  });

  const results = new Map<Measured, { rate: number[]; p99: number[] }>([
    [bare, { rate: [], p99: [] }],
    [gatecar, { rate: [], p99: [] }],
  ]);
  for (const server of results.keys()) await load(server.url, [authorization], 1);
  for (let round = 0; round < rounds; round += 1) {
    for (const [server, { rate, p99 }] of results) {
      const { requestsPerSecond, p99Ms } = await load(server.url, [authorization], seconds);
      rate.push(requestsPerSecond);
      p99.push(p99Ms);
    }
  }
  report(results, bare);
  const reviews = authority.reviews - 1;
  say(`reviews asked for this token: ${reviews}`);
  if (reviews !== 1) process.exitCode = 1;
} finally {
  for (const server of started) await stopServer(server);
  await authority.close();
}

async function start(...args: Parameters<typeof startServer>): Promise<Measured> {
  const server = await startServer(...args);
  started.push(server);
  return server;
}

/** What gatecar answers, without what node:http adds by itself. */
async function responseHead(url: string): Promise<string[]> {
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
  if (response.status !== 200) throw new Error(`gatecar answered ${response.status}`);
  return [...response.headers].filter(([name]) => !['connection', 'date', 'keep-alive'].includes(name)).flat();
}

function report(results: Map<Measured, { rate: number[]; p99: number[] }>, reference: Measured): void {
  const base = results.get(reference);
  say(
    `Node ${process.version}, ${cpus()[0]?.model}, ${rounds} rounds of ${seconds} s, 32 connections, one core each\n`,
  );
  say('| server | decisions/s: min | median | max | ratio | p99 ms | ratio |');
  say('|---|---|---|---|---|---|---|');
  for (const [{ name }, { rate, p99 }] of results) {
    const ratio = median(rate.map((value, at) => value / (base?.rate[at] ?? Number.NaN)));
    const slower = median(p99.map((value, at) => value / (base?.p99[at] ?? Number.NaN)));
    const rates = [Math.min(...rate), median(rate), Math.max(...rate)].map(Math.round).join(' | ');
    say(`| ${name} | ${rates} | ${ratio.toFixed(2)} | ${median(p99).toFixed(2)} | ${slower.toFixed(2)} |`);
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
