import { join } from 'node:path';
import t from 'tap';
import { execConfigOf, execPlugin, withoutExec } from '../../src/kube/exec-plugin.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { execUser, pluginRuns } from '../fixtures/kubeconfig.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { until } from '../fixtures/until.ts';

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** The error of a plugin that was killed at its time limit. */
const KILLED = { killed: true } as object as Error;

/** Creates a plugin that runs `script` in Node. */
function scripted(script: string, timeoutMs = 60_000, wallClock?: () => number) {
  const config = { command: process.execPath, args: ['--eval', script] };
  return execPlugin(config, wallClock === undefined ? { timeoutMs } : { timeoutMs, wallClock });
}

t.test('an exec plugin that exceeds its time limit is killed, and its run fails', async t => {
  const file = join(tempDir(t), 'runs');
  const { exec } = execUser('hang-at-first', file);
  // If the plugin is killed before it writes its process id, it is run again with more time.
  let timeoutMs = 500;
  for (;;) {
    await t.rejects(execPlugin(exec, { timeoutMs })(), KILLED);
    const [pid] = pluginRuns(file);
    if (pid !== undefined) {
      await until(() => !isAlive(Number(pid)));
      break;
    }
    timeoutMs *= 2;
  }
});

t.test('a killed exec plugin fails even if a child process keeps its output open', async t => {
  const sleeper = `require('child_process').spawn(process.execPath, ['--eval', 'setTimeout(() => {}, 20_000)'], { stdio: 'inherit' })`;
  const startedAt = performance.now();
  await t.rejects(scripted(`${sleeper};`, 500)(), KILLED);
  t.ok(performance.now() - startedAt < 15_000);
});

t.test('an exec plugin that finishes in time returns its credential', async t => {
  const { exec } = execUser('token');
  t.match(await execPlugin(exec, { timeoutMs: 60_000 })(), { token: 'plugin-token-1' });
});

t.test('a plugin’s credential is used until its expirationTimestamp, or forever without one', async t => {
  const clock = fakeClock();
  const credential = (status: string) =>
    scripted(`console.log(JSON.stringify({ status: { token: process.pid, ${status} } }))`, 60_000, clock.now);
  const [expiring, lasting] = [credential(`expirationTimestamp: '1970-01-01T01:00:00Z'`), credential('')];
  const first = [await expiring(), await lasting()];
  clock.advance(3_600_000 - clock.now() - 1);
  t.strictSame([await expiring(), await lasting()], first);
  clock.advance(1);
  t.notSame(await expiring(), first[0]);
  t.strictSame(await lasting(), first[1]);
});

t.test('an exec plugin that writes more than 1 MiB fails', async t => {
  const tooMuch = `process.stdout.write(JSON.stringify({ status: { token: 'a'.repeat(1024 * 1024) } }))`;
  await t.rejects(scripted(tooMuch)(), { code: 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER' });
});

t.test('an exec plugin that writes no ExecCredential fails, and runs again on the next call', async t => {
  const file = join(tempDir(t), 'runs');
  const { exec } = execUser('no-status', file);
  const plugin = execPlugin(exec, { timeoutMs: 60_000 });
  await t.rejects(plugin(), new Error('the exec plugin wrote no ExecCredential'));
  await t.rejects(plugin());
  t.equal(pluginRuns(file).length, 2);
});

t.test('an exec plugin that writes null has no credential', async t => {
  t.equal(await scripted(`console.log('null')`)(), undefined);
});

t.test('an exec plugin whose command does not exist fails with ENOENT', async t => {
  await t.rejects(execPlugin({ command: '/not/there' }, { timeoutMs: 60_000 })(), { code: 'ENOENT' });
});

t.test('an exec plugin is found in, and removed from, a user’s exec field and auth-provider', t => {
  const exec = { command: 'plugin' };
  const [byExec, byProvider] = [
    { name: 'user-1', exec, token: 'static' },
    { name: 'user-2', authProvider: { name: 'exec', config: { exec } } },
  ];
  t.strictSame([execConfigOf(byExec), execConfigOf(byProvider)], [exec, exec]);
  t.strictSame(
    [withoutExec(byExec), withoutExec(byProvider)],
    [{ name: 'user-1', token: 'static' }, { name: 'user-2' }],
  );
  const oidc = { name: 'user-3', authProvider: { name: 'oidc', config: {} } };
  t.equal(execConfigOf(oidc), undefined);
  t.strictSame(withoutExec(oidc), oidc);
  t.equal(execConfigOf({ name: 'user-4' }), undefined);
  t.end();
});
