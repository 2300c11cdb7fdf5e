import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { skipWithout } from '../e2e/fixtures/support/missing-tools.ts';
import { childEnv } from '../fixtures/child-env.ts';
import { startGatecarProcess } from '../fixtures/gatecar-process.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { shell } from '../fixtures/shell.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { until } from '../fixtures/until.ts';

// These tests start a dozen processes, which is slow on a busy machine.
t.setTimeout(240_000);

const MAIN = join(import.meta.dirname, '../../src/main.ts');

t.test('a standard output that is never read does not prevent an exit with 0', async t => {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecarProcess({ GATECAR_KUBE_API_URL: standIn.url, GATECAR_AUDIT_LOG: 'all' });
  t.teardown(() => gatecar.stop());
  gatecar.stopReading();
  // Enough lines to fill the kernel's pipe buffer.
  const statuses = new Set<number>();
  for (let request = 0; request < 1500; request += 1)
    statuses.add((await sendRequest(gatecar.auth, { token: 'good' })).status);
  t.strictSame([...statuses], [200]);
  gatecar.kill('SIGTERM');
  t.equal(await gatecar.endedBy, null, 'the process exited without another signal');
  gatecar.readAgain();
  t.equal(await gatecar.exitCode, 0);
  t.match(gatecar.output(), /^gatecar: lines not written to standard output: \d+$/m);
});

t.test('every command whose output cannot be written reports that and exits with 1', async t => {
  for (const command of ['gateway nginx', 'check', 'explain <<<abc', 'explain --help', '--help', '--version']) {
    t.strictSame(
      await shell(`gatecar ${command} >/dev/full`),
      { out: '', err: 'gatecar: cannot write to standard output: ENOSPC\n', code: 1 },
      command,
    );
  }
});

t.test('a command whose reader closes the pipe exits quietly, as if by SIGPIPE', async t => {
  for (const command of ['gateway nginx', '--help']) {
    const script = `gatecar ${command} | true; echo "\${PIPESTATUS[0]}"`;
    t.strictSame(await shell(script), { out: '141\n', err: '', code: 0 }, command);
  }
});

t.test('a command that can write neither output nor error exits with 1', async t => {
  t.strictSame(await shell('gatecar --help >/dev/full 2>&1'), { out: '', err: '', code: 1 });
});

t.test('an uncaught error exits with 1 even if output and error cannot be written, or the pipe is closed', async t => {
  const breaks = `setTimeout(() => { throw new Error("unexpected"); }, 1)`;
  const serve = `NODE_OPTIONS='--import=data:text/javascript,${encodeURIComponent(breaks)}' gatecar serve --listen=127.0.0.1:0 --ops-listen=127.0.0.1:0`;
  t.strictSame(await shell(`${serve} >/dev/full 2>&1`), { out: '', err: '', code: 1 });
  t.match(await shell(`${serve} | true; exit "\${PIPESTATUS[0]}"`), { code: 1 });
});

t.test('a stopped terminal does not prevent an exit', { skip: skipWithout(scriptMissing()) }, async t => {
  const directory = tempDir(t);
  const settings = `--mode=format-only --audit-log=all --listen=unix:${directory}/auth --ops-listen=unix:${directory}/ops`;
  const command = `echo $$ >${directory}/pid; exec "${process.execPath}" "${MAIN}" serve ${settings} --shutdown-delay=0s`;
  // Nothing reads the output of `script`, so it stops reading from the terminal that it creates.
  const terminal = spawn('script', ['--quiet', '--return', '--flush', '--command', command, '/dev/null'], {
    env: childEnv(),
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => terminal.kill('SIGKILL'));
  const exit = once(terminal, 'exit');
  await until(() => existsSync(join(directory, 'auth')) || terminal.exitCode !== null);
  t.equal(terminal.exitCode, null, 'gatecar has started');
  const pid = Number(readFileSync(join(directory, 'pid'), 'utf8'));
  const socketPath = join(directory, 'auth');
  const statuses = new Set<number>();
  for (let request = 0; request < 1500; request += 1) {
    const [response] = await once(get({ socketPath, path: '/auth' }), 'response');
    statuses.add(response.resume().statusCode);
  }
  t.strictSame([...statuses], [401]);
  process.kill(pid, 'SIGTERM');
  await until(() => !isRunning(pid));
  terminal.stdout.resume();
  t.strictSame(
    await exit,
    [128 + 9, null],
    'gatecar kills itself, because an exit would wait for the write to the terminal',
  );
});

function scriptMissing(): string | undefined {
  return spawnSync('script', ['--version']).status === 0 ? undefined : 'install script of util-linux';
}

function isRunning(pid: number): boolean {
  return !/^State:\s+Z/m.test(statusOf(pid)) && statusOf(pid) !== '';
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
}
