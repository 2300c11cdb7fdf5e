import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { ERROR_LINES, LOG_LINES, STANDARD_OUTPUT } from '../../../src/observability/logging/process-output.ts';

const MODULE = join(import.meta.dirname, '../../../src/observability/logging/process-output.ts');

t.test('a failure of standard output is reported once on standard error', async t => {
  const full = openSync('/dev/full', 'w');
  const script = `
    const { LOG_LINES } = await import(${JSON.stringify(MODULE)});
    LOG_LINES.write('one\\n');
    const wait = setInterval(() => {
      if (LOG_LINES.failedWrites > 1) clearInterval(wait);
    }, 5);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['ignore', full, 'pipe'] });
  t.match(
    await text(child.stderr as NonNullable<typeof child.stderr>),
    /^gatecar: standard output failed: ENOSPC; [^\n]*4 MiB[^\n]*\n$/,
  );
  closeSync(full);
});

t.test('if the reader of standard output is gone, standard error reports lost lines', async t => {
  const script = `
    const { LOG_LINES } = await import(${JSON.stringify(MODULE)});
    process.stdin.once('end', () => LOG_LINES.write('one\\n')).resume();`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'pipe' });
  child.stdout.destroy();
  child.stdout.once('close', () => child.stdin.end());
  t.match(
    await text(child.stderr),
    /^gatecar: standard output failed: EPIPE; lost lines are counted in gatecar_log_lines_dropped_total\n$/,
  );
});

t.test('standard streams are neither opened nor written before the first line', async t => {
  t.equal(STANDARD_OUTPUT.delaysExit(), false);
  t.strictSame(await ERROR_LINES.finish(0), { lost: 0, delaysExit: false });
  t.strictSame(await LOG_LINES.finish(0), { lost: 0, delaysExit: false });
});
