import type { Bench, Check, Row, Scenario } from './scenario.ts';
import { missing } from './tools.ts';

/** Number and length of the rounds. */
export type Scale = Pick<Bench, 'rounds' | 'seconds' | 'minutes' | 'quick'>;

export interface Findings {
  readonly rows: readonly Row[];
  readonly checks: readonly Check[];
  /** The reason why the scenario was not run. */
  readonly skipped?: string;
}

/** Runs a scenario and catches its errors. Its last claim is that it ends as expected. */
export async function runScenario(scenario: Scenario, scale: Scale): Promise<Findings> {
  const without = missing(['taskset', ...scenario.tools]);
  // CI must have all tools, so a missing one is a failure there.
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
    checks.push({ claim: 'the scenario ends without an error', holds: true });
  } catch (error) {
    process.stderr.write(`${scenario.name}: ${error instanceof Error ? error.stack : error}\n`);
    checks.push({ claim: 'the scenario ends without an error', holds: false });
  } finally {
    for (const undo of undone.reverse()) {
      try {
        await undo();
      } catch (error) {
        process.stderr.write(`${scenario.name}: ${error}\n`);
        checks.push({ claim: 'every cleanup succeeds', holds: false });
      }
    }
  }
  return { rows, checks };
}
