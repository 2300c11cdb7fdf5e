import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drawnFiles } from '../scripts/drawings/drawings.ts';
import type { Recorded } from './recorded.ts';
import type { Row, Scenario } from './scenario.ts';
import { SCENARIOS } from './scenarios.ts';
import { meets, table } from './table.ts';
import { machine, versions } from './tools.ts';

const ROOT = join(import.meta.dirname, '..');
const RESULTS = join(import.meta.dirname, 'results.json');
const PAGE = join(import.meta.dirname, 'RESULTS.md');
/** A comparison of two versions of gatecar, measured once. It is the last section of the page. */
const COMPARISON = join(import.meta.dirname, 'comparison.md');

/**
 * Stores these findings as results of record. They replace the last results of the same scenarios;
 * other scenarios keep theirs.
 */
export function record(found: readonly { readonly scenario: Scenario; readonly rows: readonly Row[] }[]): void {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  const fresh = found.map(({ scenario, rows }): Recorded => {
    return {
      scenario: scenario.name,
      about: scenario.about,
      date: new Date().toISOString().slice(0, 10),
      command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
      version,
      machine: machine(),
      versions: versions(scenario.tools),
      rows: rows.map(({ values, ratios, ...row }) => {
        return { ...row, values: values.map(rounded), ...(ratios && { ratios: ratios.map(rounded) }) };
      }),
    };
  });
  const all = [...fresh, ...recorded().filter(one => !fresh.some(({ scenario }) => scenario === one.scenario))];
  const order = SCENARIOS.map(({ name }) => name);
  all.sort((one, other) => order.indexOf(one.scenario) - order.indexOf(other.scenario));
  writeFileSync(RESULTS, `${JSON.stringify(all, undefined, 2)}\n`);
  writeFileSync(PAGE, page(all));
  for (const [path, svg] of Object.entries(drawnFiles())) writeFileSync(join(ROOT, path), svg);
}

function recorded(): Recorded[] {
  try {
    return JSON.parse(readFileSync(RESULTS, 'utf8')) as Recorded[];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function page(all: readonly Recorded[]): string {
  const rows = all.flatMap(({ scenario, rows }) => rows.map(row => ({ scenario, ...row })));
  const withGoal = rows.filter(({ goal }) => goal !== undefined);
  const met = withGoal.filter(row => meets(row)).length;
  const sections = all.map(one => {
    const circumstances = `${one.date}, gatecar ${one.version}, \`${one.command}\`.\n${one.machine}; ${one.versions.join(', ')}.`;
    return `## ${one.scenario}\n\n${sentence(one.about)}\n\n${circumstances}\n\n${table(one.rows.map(row => ({ scenario: one.scenario, ...row })))}`;
  });
  return `# Results of record

\`npm run bench -- --record\` writes this page. The measured process has one core, and the load generator another.
Contenders take turns in each round. A ratio compares a contender with the reference row above it in the same round.
Values and ratios are medians; \`min\` and \`max\` are the lowest and highest values.

## Goals: ${met} of ${withGoal.length} met

${table(withGoal)}
${sections.join('\n')}
${readFileSync(COMPARISON, 'utf8')}`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
