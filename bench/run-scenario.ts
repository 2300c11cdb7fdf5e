import type { Bench, Check, Row, Scenario } from './scenario.ts';
import { missing } from './tools.ts';

/** How it is run. */
export type Scale = Pick<Bench, 'rounds' | 'seconds' | 'minutes' | 'quick'>;

export interface Findings {
  readonly rows: readonly Row[];
  readonly checks: readonly Check[];
  /** Why it was not run. */
  readonly skipped?: string;
}

/** Runs one, whatever becomes of it: that it ends as it should is its last claim. */
export async function runScenario(scenario: Scenario, scale: Scale): Promise<Findings> {
  const without = missing(['taskset', ...scenario.tools]);
  // In CI everything is there, or something is wrong.
  if (without !== undefined && !process.env['CI']) return { rows: [], checks: [], skipped: `skipped: ${without}` };
  if (without !== undefined) return { rows: [], checks: [{ claim: without, holds: false }] };
  const rows: Row[] = [];
  const checks: Check[] = [];
  const undone: (() => unknown)[] = [];
  try {
    await scenario.run({
      ...scale,
      row: row => rows.push(row),
      check: (claim, holds) => checks.push({ claim, holds }),
      teardown: undo => undone.push(undo),
    });
    checks.push({ claim: 'it works', holds: true });
  } catch (error) {
    process.stderr.write(`${scenario.name}: ${error instanceof Error ? error.stack : error}\n`);
    checks.push({ claim: 'it works', holds: false });
  } finally {
    for (const undo of undone.reverse()) {
      try {
        await undo();
      } catch (error) {
        process.stderr.write(`${scenario.name}: ${error}\n`);
        checks.push({ claim: 'all that it started is ended', holds: false });
      }
    }
  }
  return { rows, checks };
}
