import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { unreferencedTimer } from '../../src/system/unreferenced-timer.ts';
import { until } from '../fixtures/until.ts';

t.test('the timer calls back once', async t => {
  let calls = 0;
  unreferencedTimer(() => {
    calls += 1;
  }, 1);
  await until(() => calls > 0);
  t.equal(calls, 1);
});

t.test('the timer does not keep the process alive', t => {
  const module = fileURLToPath(new URL('../../src/system/unreferenced-timer.ts', import.meta.url));
  const script = `import { unreferencedTimer } from ${JSON.stringify(module)}; unreferencedTimer(() => {}, 600_000);`;
  const { status } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], { timeout: 30_000 });
  t.equal(status, 0);
  t.end();
});
