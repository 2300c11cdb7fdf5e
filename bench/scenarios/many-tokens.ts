import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchAuthority } from '../dev-authority.ts';
import { hastyIssuer } from '../fast-token-issuer.ts';
import { type Gatecar, startGatecar } from '../gatecar.ts';
import { report, takeTurns } from '../interleave.ts';
import { wrk } from '../load.ts';
import { startAsker } from '../load-client.ts';
import { LOAD_CORE, residentMb } from '../pinned-process.ts';
import type { Scenario } from '../scenario.ts';
import { median } from '../statistics.ts';

const PROBE = ['--expose-gc', '--import', join(import.meta.dirname, '../memory-probe.mjs')];
const MORE_MB = 512;
const SUBJECT = { namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] };

export const manyTokens: Scenario = {
  name: 'many-tokens',
  about: '100,000 tokens in use instead of one: memory per token and decision rate',
  tools: ['wrk'],
  async run(bench) {
    const count = bench.quick ? 1_000 : 100_000;
    const directory = await mkdtemp(join(tmpdir(), 'gatecar-bench-'));
    bench.teardown(() => rm(directory, { recursive: true }));
    const issuer = hastyIssuer();
    const authority = await benchAuthority(bench, issuer);
    const settings = { ...authority.settings, GATECAR_CACHE_MAX_ENTRIES: String(count) };
    const tokens = Array.from({ length: count }, () => issuer.issue(SUBJECT));

    const started = async (name: string, file: string, known: readonly string[], flags: readonly string[] = []) => {
      const gatecar = await startGatecar(bench, settings, { flags: [...PROBE, ...flags] });
      const path = join(directory, file);
      await writeFile(path, `${shuffled(known).join('\n')}\n`, { mode: 0o600 });
      const empty = await collected(gatecar);
      const ask = await startAsker(bench, { url: `${gatecar.auth}/auth` }, LOAD_CORE);
      await ask({ kind: 'auth', tokens: known, atOnce: 16, patient: true });
      const full = await collected(gatecar);
      const load = (seconds: number) => wrk({ url: `${gatecar.auth}/auth`, script: ['rotate.lua', path], seconds });
      return { name, pid: gatecar.pid, gatecar, load, empty, full };
    };
    const name = `gatecar, ${count} tokens`;
    const many = await started(name, 'many', tokens).catch(error => {
      // Then retries with a larger heap, as an operator would set it, to measure the required size.
      process.stderr.write(`${count} tokens do not fit into the image's heap: ${error}\n`);
      return started(`${name}, ${MORE_MB} MB of heap`, 'many', tokens, [`--max-old-space-size=${MORE_MB}`]);
    });
    const before = authority.reviews;
    const one = await started('gatecar, 1 token', 'one', tokens.slice(0, 1));
    const reviews = authority.reviews;

    const samples = await takeTurns(bench, [one, many]);
    report(bench, 'decisions/s', 'perSecond', samples, { of: 'ratio', bound: '≥', limit: 1 / 1.3 });
    report(bench, 'core time, µs', 'cpuUs', samples);
    const by = many.name;
    const bytes = (of: 'held' | 'rss') => [(many.full[of] - many.empty[of]) / count];
    const goal = { of: 'value', bound: '≤', limit: 700 } as const;
    bench.row({ what: 'heap, bytes per result', by, values: bytes('held'), goal });
    bench.row({ what: 'resident, bytes per result', by, values: bytes('rss') });
    const resident = Array.from({ length: 5 }, () => residentMb(many.pid));
    bench.row({ what: 'resident, MB', by, values: [median(resident)], goal: { of: 'value', bound: '≤', limit: 220 } });
    const asked = await many.gatecar.metric('gatecar_reviews_total{outcome="authenticated"}');
    bench.check(`${count} tokens are ${count} reviews`, asked === count);
    // One review of the token and one of the readiness probe.
    bench.check('one token is one review', reviews - before === 2);
    bench.check('and no more, however often each is used', authority.reviews === reviews);
    const kept = await many.gatecar.metric('gatecar_cache_entries{store="authenticated"}');
    bench.check(`${count} results are cached`, kept === count);
  },
};

/** Returns the memory that is left after a forced garbage collection, in bytes. */
async function collected(gatecar: Gatecar): Promise<{ readonly rss: number; readonly held: number }> {
  process.kill(gatecar.pid, 'SIGUSR2');
  for (;;) {
    const [line] = (await once(gatecar.lines, 'line')) as [string];
    if (line.startsWith('{"collected"')) return JSON.parse(line).collected;
  }
}

/** Returns the tokens in another order than that in which they were cached. */
function shuffled(tokens: readonly string[]): string[] {
  const mixed = [...tokens];
  for (let at = mixed.length - 1; at > 0; at -= 1) {
    const other = Math.floor(Math.random() * (at + 1));
    [mixed[at], mixed[other]] = [mixed[other] ?? '', mixed[at] ?? ''];
  }
  return mixed;
}
