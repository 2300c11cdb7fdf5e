import { join } from 'node:path';
import t from 'tap';
import { execConfigOf, execPlugin, withoutExec } from '../../src/kube/exec-plugin.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { execUser, pluginRuns } from '../fixtures/kubeconfig.ts';
import { scratch } from '../fixtures/temp-dir.ts';
import { until } from '../fixtures/until.ts';

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** The error of a program that its time limit ended. */
const KILLED = { killed: true } as object as Error;

/** A plugin that takes `script` for its program. */
function scripted(script: string, timeoutMs = 60_000, wallClock?: () => number) {
  const config = { command: process.execPath, args: ['--eval', script] };
  return execPlugin(config, wallClock === undefined ? { timeoutMs } : { timeoutMs, wallClock });
}

t.test('a plugin that takes too long is killed, and its run fails', async t => {
  const file = join(scratch(t), 'runs');
  const { exec } = execUser('hang-at-first', file);
  // A plugin that is killed before it has written its process id is run again with more time.
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

t.test('a plugin that is killed fails even if a process that it started keeps its output open', async t => {
  const sleeper = `require('child_process').spawn(process.execPath, ['--eval', 'setTimeout(() => {}, 20_000)'], { stdio: 'inherit' })`;
  const startedAt = performance.now();
  await t.rejects(scripted(`${sleeper};`, 500)(), KILLED);
  t.ok(performance.now() - startedAt < 15_000);
});

t.test('a plugin that finishes in time returns its credential', async t => {
  const { exec } = execUser('token');
  t.match(await execPlugin(exec, { timeoutMs: 60_000 })(), { token: 'plugin-token-1' });
});

t.test('a credential is used until it expires, or for good without an expirationTimestamp', async t => {
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

t.test('a plugin that writes more than 1 MiB fails', async t => {
  const tooMuch = `process.stdout.write(JSON.stringify({ status: { token: 'a'.repeat(1024 * 1024) } }))`;
  await t.rejects(scripted(tooMuch)(), { code: 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER' });
});

t.test('a plugin that writes no ExecCredential fails, and runs again the next time', async t => {
  const file = join(scratch(t), 'runs');
  const { exec } = execUser('no-status', file);
  const plugin = execPlugin(exec, { timeoutMs: 60_000 });
  await t.rejects(plugin(), new Error('the exec plugin wrote no ExecCredential'));
  await t.rejects(plugin());
  t.equal(pluginRuns(file).length, 2);
});

t.test('a plugin that writes null has no credential', async t => {
  t.equal(await scripted(`console.log('null')`)(), undefined);
});

t.test('a plugin without arguments that does not exist fails with ENOENT', async t => {
  await t.rejects(execPlugin({ command: '/not/there' }, { timeoutMs: 60_000 })(), { code: 'ENOENT' });
});

t.test('the plugin of a user is found in its exec field and in its auth-provider, and is taken out of it', t => {
  const exec = { command: 'plugin' };
  const [byExec, byProvider] = [
    { name: 'one', exec, token: 'static' },
    { name: 'two', authProvider: { name: 'exec', config: { exec } } },
  ];
  t.strictSame([execConfigOf(byExec), execConfigOf(byProvider)], [exec, exec]);
  t.strictSame([withoutExec(byExec), withoutExec(byProvider)], [{ name: 'one', token: 'static' }, { name: 'two' }]);
  const other = { name: 'three', authProvider: { name: 'oidc', config: {} } };
  t.equal(execConfigOf(other), undefined);
  t.strictSame(withoutExec(other), other);
  t.equal(execConfigOf({ name: 'four' }), undefined);
  t.end();
});
