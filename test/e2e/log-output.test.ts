import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { buildBundle, imageForm } from '../../bench/production-build.ts';
import { auditLines } from '../fixtures/audit-lines.ts';
import { metric } from '../fixtures/metrics.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { until } from './fixtures/support/until.ts';

// Standard output fails in several ways, while gatecar runs as in the image and audits every
// decision.

const DROPPED = 'gatecar_log_lines_dropped_total';
const FAILURES = 'gatecar_log_write_failures_total';

t.setTimeout(180_000);
t.before(buildBundle);

/** Standard output as a shell or a container runtime passes it to a process. */
type Output = number | 'pipe';

async function start(t: Test, output: Output) {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const [auth, ops] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const { args, env } = imageForm();
  const child: ChildProcess = spawn(process.execPath, [...args, 'serve'], {
    env: {
      ...env,
      GATECAR_KUBE_API_URL: standIn.url,
      GATECAR_AUDIT_LOG: 'all',
      GATECAR_LOG_LEVEL: 'info',
      GATECAR_LISTEN: auth,
      GATECAR_OPS_LISTEN: ops,
      GATECAR_SHUTDOWN_DELAY: '0s',
    },
    stdio: ['ignore', output, 'pipe'],
  });
  const exit = once(child, 'exit');
  const errors = text(child.stderr as NonNullable<typeof child.stderr>);
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  t.teardown(() => {
    agent.destroy();
    child.kill('SIGKILL');
  });
  const opsUrl = `http://${ops}`;
  await until('gatecar is ready', () =>
    sendRequest(opsUrl, { path: '/readyz' }).then(
      ({ status }) => status === 200,
      () => false,
    ),
  );
  return {
    child,
    read: (name: string) => metric(opsUrl, name),
    /**
     * Sends this many requests with a cached token. @throws if a response is not 200.
     */
    async decide(count: number) {
      for (let left = count; left > 0; left -= 200) {
        const replies = Array.from({ length: Math.min(left, 200) }, () =>
          sendRequest(`http://${auth}`, { token: 'good', agent }),
        );
        const failed = (await Promise.all(replies)).filter(({ status }) => status !== 200);
        if (failed.length > 0) throw new Error(`${failed.length} of ${count} got ${failed[0]?.status}`);
      }
      if ((await sendRequest(opsUrl, { path: '/livez' })).status !== 200) throw new Error('not alive');
    },
    /**
     * Sends SIGTERM. @returns the exit and the number of lost lines that gatecar reports.
     */
    async end() {
      child.kill('SIGTERM');
      const [code, signal] = await exit;
      const errorOutput = await errors;
      const lost = Number(/^gatecar: lines not written to standard output: (\d+)$/m.exec(errorOutput)?.[1] ?? 0);
      return { code, signal, errorOutput, lost };
    },
  };
}

function mountMissing(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'run as root, which may mount a tmpfs';
}

/** Mounts a file system of this size in KiB. */
function disk(t: Test, kib: number): string {
  const directory = tempDir(t);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k`, 'tmpfs', directory]);
  t.teardown(() => execFileSync('umount', ['--lazy', directory]));
  return directory;
}

function fileFor(t: Test, path: string): number {
  const fd = openSync(path, 'a');
  t.teardown(() => closeSync(fd));
  return fd;
}

t.test(
  'a full disk that is freed: decisions continue and no line is lost',
  {
    skip: skipWithout(mountMissing()),
  },
  async t => {
    const directory = disk(t, 512);
    writeFileSync(join(directory, 'filler'), Buffer.alloc(256 * 1024));
    const log = join(directory, 'log');
    const gatecar = await start(t, fileFor(t, log));
    await gatecar.decide(1_000);
    await until('writing fails', async () => (await gatecar.read(FAILURES)) > 0);
    await gatecar.decide(200);
    t.equal(await gatecar.read(DROPPED), 0, 'the lines wait');
    rmSync(join(directory, 'filler'));
    await until('it is written', async () => readFileSync(log, 'utf8').includes('"sequence":1200'));
    t.match(await gatecar.end(), {
      code: 0,
      signal: null,
      lost: 0,
      errorOutput: /^gatecar: standard output failed: ENOSPC/,
    });
    const lines = auditLines(readFileSync(log, 'utf8'));
    t.strictSame(
      lines.map(({ sequence }) => sequence),
      Array.from({ length: 1_200 }, (_, index) => index + 1),
    );
    t.match(readFileSync(log, 'utf8'), /"lost":0,"msg":"log output failed or was too slow"/);
  },
);

t.test(
  'a disk that stays full: decisions continue, each line is written or counted, and SIGTERM exits with 0',
  {
    skip: skipWithout(mountMissing()),
  },
  async t => {
    const directory = disk(t, 64);
    const log = join(directory, 'log');
    const gatecar = await start(t, fileFor(t, log));
    await gatecar.decide(20_000);
    t.ok((await gatecar.read(DROPPED)) > 0, 'lines beyond 4 MiB are lost');
    const { code, lost, errorOutput } = await gatecar.end();
    t.equal(code, 0);
    t.equal(errorOutput.match(/standard output failed/g)?.length, 1, 'the failure is reported once');
    const written = readFileSync(log, 'utf8').split('\n').slice(0, -1);
    t.ok(written.length > 0);
    // Log lines without an audit field: listening, draining, stopped, and those of the start.
    const logLines = written.filter(line => !line.includes('"audit":true')).length;
    const decided = auditLines(written.join('\n')).length;
    t.ok(decided + lost >= 20_000 && decided + lost + logLines <= 20_010, `${decided} written, ${lost} lost`);
  },
);

t.test('a device without space: each line is counted', async t => {
  const gatecar = await start(t, fileFor(t, '/dev/full'));
  await gatecar.decide(1_000);
  const { code, lost } = await gatecar.end();
  t.equal(code, 0);
  t.ok(lost >= 1_000 && lost <= 1_010, `${lost} lost`);
});

t.test('a closed pipe: decisions continue, each line is counted, and SIGTERM exits with 0 immediately', async t => {
  const gatecar = await start(t, 'pipe');
  gatecar.child.stdout?.destroy();
  await gatecar.decide(1_000);
  await until('the lines are counted', async () => (await gatecar.read(DROPPED)) >= 1_000);
  const started = performance.now();
  t.match(await gatecar.end(), { code: 0, signal: null, errorOutput: /^gatecar: standard output failed: EPIPE/ });
  t.ok(performance.now() - started < 1_500, 'the exit did not wait');
});

t.test('a slow reader: decisions continue, and each line is read or counted', async t => {
  const gatecar = await start(t, 'pipe');
  const stdout = gatecar.child.stdout as NonNullable<ChildProcess['stdout']>;
  await gatecar.decide(20_000);
  t.ok((await gatecar.read(DROPPED)) > 0);
  const output = text(stdout);
  const ended = await gatecar.end();
  t.match(ended, { code: 0, signal: null, lost: 0 });
  const lines = await output;
  const lost = Number(/"lost":(\d+)/.exec(lines)?.[1]);
  const read = auditLines(lines).length;
  // The lost lines include a few that are not audit lines, such as summaries of denials.
  t.ok(read + lost >= 20_000 && read + lost < 20_100, `${read} read, ${lost} lost`);
});

t.test('a reader that is stuck: SIGTERM exits with 0, and each line is read or counted', async t => {
  const path = join(tempDir(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  t.teardown(() => closeSync(reader));
  const writer = openSync(path, constants.O_WRONLY);
  const gatecar = await start(t, writer);
  closeSync(writer);
  await gatecar.decide(20_000);
  const { code, signal, lost } = await gatecar.end();
  t.strictSame([code, signal], [0, null]);
  const read = auditLines(contentsOf(reader)).length;
  // A write in flight may be cut: its lines are counted and may also have been read.
  t.ok(read > 0 && read + lost >= 20_000 && read + lost < 20_100, `${read} read, ${lost} lost`);
});

/** Returns the complete lines that remain in a pipe without a writer. */
function contentsOf(reader: number): string {
  const content = readFileSync(reader, 'utf8');
  return content.slice(0, content.lastIndexOf('\n') + 1);
}
