// Measures each scenario as a ratio to a minimal baseline in the same run.
//
//   npm run bench                              all scenarios except the long ones
//   npm run bench -- cached-http miss          only these
//   npm run bench -- --quick                   all for one second each, to check that they work
//   npm run bench -- --rounds 3 --seconds 2    instead of five rounds of five seconds
//   npm run bench -- --soak --minutes 10       includes the soak test
//   npm run bench -- --record                  updates bench/results.json, bench/RESULTS.md and
//                                              docs/bench.svg
import { parseArgs } from 'node:util';
import { moveToLoadCore } from './pinned-process.ts';
import { buildBundle } from './production-build.ts';
import { record } from './record.ts';
import { runScenario } from './run-scenario.ts';
import type { Row, Scenario } from './scenario.ts';
import { SCENARIOS } from './scenarios.ts';
import { type TableRow, table } from './table.ts';
import { machine, versions } from './tools.ts';

const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    minutes: { type: 'string' },
    soak: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
  },
});

const scale = {
  quick: options.quick,
  rounds: options.quick ? 1 : count('rounds', options.rounds ?? '5'),
  seconds: options.quick ? 1 : count('seconds', options.seconds ?? '5'),
  minutes: count('minutes', options.minutes ?? '10'),
};
if (options.quick && options.record) fail('--quick gives no results to record; omit --record');
const unknown = names.filter(name => !SCENARIOS.some(scenario => scenario.name === name));
if (unknown.length > 0)
  fail(`unknown scenario ${unknown.join(', ')}; known: ${SCENARIOS.map(({ name }) => name).join(', ')}`);
const chosen = SCENARIOS.filter(({ name, byNameOnly }) => {
  if (names.length > 0) return names.includes(name);
  return !byNameOnly || options.quick || (name === 'soak' && options.soak);
});

say(`${machine()}; ${versions(chosen.flatMap(({ tools }) => tools)).join(', ')}`);
say(`${scale.rounds} rounds of ${scale.seconds} s; the measured process has one core, the load another`);
moveToLoadCore();
buildBundle();
const rows: TableRow[] = [];
const toRecord: { scenario: Scenario; rows: readonly Row[] }[] = [];
let total = 0;
let failed = 0;
for (const scenario of chosen) {
  const start = performance.now();
  const findings = await runScenario(scenario, scale);
  say(
    `\n# ${scenario.name}, ${scenario.about}: ${findings.skipped ?? `${Math.round((performance.now() - start) / 1000)} s`}`,
  );
  for (const { claim, holds } of findings.checks) {
    total += 1;
    if (!holds) failed += 1;
    say(`${holds ? 'ok' : 'not ok'} - ${scenario.name}: ${claim}`);
  }
  const found = findings.rows.map(row => ({ scenario: scenario.name, ...row }));
  if (!options.quick && found.length > 0) say(`\n${table(found)}`);
  rows.push(...found);
  const isSound = found.length > 0 && findings.checks.every(({ holds }) => holds);
  if (options.record && isSound) toRecord.push({ scenario, rows: findings.rows });
  else if (options.record) say(`${scenario.name} is not recorded: it failed or has no results`);
}
if (!options.quick && chosen.length > 1) say(`\n${table(rows)}`);
if (toRecord.length > 0) record(toRecord);
// The same summary as tap's; .ci/run reads the counts from it.
say(`# { total: ${total}, pass: ${total - failed}${failed > 0 ? `, fail: ${failed}` : ''} }`);
process.exitCode = failed > 0 ? 1 : 0;

function count(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) fail(`--${name} must be a whole number of at least 1, not ${text}`);
  return value;
}

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(2);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
