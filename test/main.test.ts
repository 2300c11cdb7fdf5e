import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { VERSION } from '../src/app.ts';
import { childEnv } from './fixtures/child-env.ts';
import { startGatecarProcess } from './fixtures/gatecar-process.ts';
import { sendRequest } from './fixtures/send-request.ts';
import { shell } from './fixtures/shell.ts';
import { accepts, hangs, reviews, startStandIn } from './fixtures/stand-in-api-server.ts';
import { tempDir } from './fixtures/temp-dir.ts';
import { until } from './fixtures/until.ts';

// These tests start a dozen processes, which is slow on a busy machine.
t.setTimeout(240_000);

const TLS = join(import.meta.dirname, 'fixtures/tls');
const MAIN = join(import.meta.dirname, '../src/main.ts');

async function run(args: string[], env: Record<string, string> = {}, input = '') {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...childEnv(), ...env } });
  child.stdin.end(input);
  let out = '';
  let err = '';
  child.stdout.on('data', chunk => {
    out += chunk;
  });
  child.stderr.on('data', chunk => {
    err += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, out, err };
}

t.test('--help and --version print and exit with 0', async t => {
  t.match(await run(['--help']), { code: 0, out: /^gatecar: .*\n\nUsage: gatecar/, err: '' });
  t.match(await run(['serve', '-h']), { code: 0, out: /Usage/ });
  t.strictSame(await run(['--version']), { code: 0, out: `${VERSION}\n`, err: '' });
});

t.test('a one-shot command has its own --help', async t => {
  t.match(await run(['explain', '--help']), { code: 0, out: /^gatecar explain: [\s\S]*\nExample: /, err: '' });
  t.match(await run(['help', 'explain']), { code: 0, out: /^gatecar explain: /, err: '' });
});

t.test('an unknown command is reported with the closest one and exit code 2', async t => {
  const err = 'gatecar: "chek" is no known command; did you mean check? See gatecar --help\n';
  t.strictSame(await run(['chek']), { code: 2, out: '', err });
});

t.test('`gatecar top` writes each page at once, and a signal ends it', async t => {
  const gatecar = await start(t, {});
  const child = spawn(process.execPath, [MAIN, 'top', `--url=${gatecar.ops}`], { env: childEnv() });
  t.teardown(() => child.kill('SIGKILL'));
  let out = '';
  child.stdout.on('data', chunk => {
    out += chunk;
  });
  const exit = once(child, 'close');
  await until(() => out.includes('DECISIONS'));
  child.kill('SIGINT');
  t.strictSame(await exit, [null, 'SIGINT']);
});

t.test('`gatecar check` exits with 1 if a check fails, and with 0 otherwise', async t => {
  const standIn = await startStandIn(reviews({ error: 'invalid bearer token' }));
  t.teardown(() => standIn.close());
  const free = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0' };
  t.match(await run(['check'], { ...free, GATECAR_KUBE_API_URL: standIn.url }), { code: 0, err: '' });
  t.match(await run(['check'], free), { code: 1, out: /^fail {2}credential .*no API server is known/m, err: '' });
});

t.test('`gatecar gateway` prints a configuration, and remaining steps on standard error', async t => {
  t.match(await run(['gateway', 'envoy-grpc']), {
    code: 0,
    out: /^static_resources:$/m,
    err: 'gatecar: this gateway calls gatecar over gRPC, which is off: set GATECAR_GRPC_LISTEN=:9082\n',
  });
});

t.test('`gatecar explain` reads standard input, and its exit code reports the decision', async t => {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const env = { GATECAR_KUBE_API_URL: standIn.url };
  t.match(await run(['explain'], env, 'opaque\n'), { code: 0, out: /^decision: allow \(HTTP 200\)\n/, err: '' });
  t.match(await run(['explain', '--allowed-namespaces=ci'], env, 'opaque\n'), { code: 1, err: '' });
  t.match(await run(['explain', '--output=xml'], env, 'opaque\n'), {
    code: 2,
    out: '',
    err: 'gatecar: --output must be text or json\n',
  });
});

t.test('all invalid settings are reported, one line each, with exit code 2', async t => {
  const env = { GATECAR_CACHE_TTL: '1h', GATECAR_LISTN: ':1', BIND_ALLOWED_NAMESPACES: '' };
  const { code, out, err } = await run(['--mode=open', 'sreve'], env);
  t.equal(code, 2);
  t.equal(out, '');
  t.equal(err.trim().split('\n').length, 5, err);
  for (const name of ['--mode', 'sreve', 'GATECAR_CACHE_TTL', 'GATECAR_LISTEN?', 'BIND_ALLOWED_NAMESPACES']) {
    t.match(err, name);
  }
  t.ok(err.split('\n').every(line => line === '' || line.startsWith('gatecar: ')));
});

t.test('a token in the value of a setting is not repeated', async t => {
  const token = 'eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln';
  const { code, err } = await run(['serve'], { GATECAR_ALLOWED_NAMESPACES: token });
  t.equal(code, 2);
  t.match(err, 'got "[token]"');
});

t.test('an address in use exits with 1 and one line', async t => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const address = `127.0.0.1:${port}`;
  const { code, err } = await run([
    'serve',
    `--listen=${address}`,
    '--ops-listen=127.0.0.1:0',
    '--kube-api-url=http://[::1]:1',
  ]);
  t.equal(code, 1);
  t.equal(err, `gatecar: GATECAR_LISTEN: cannot listen on ${address}: EADDRINUSE\n`);
});

t.test('invalid TLS files exit with 2 and one line that does not quote their content', async t => {
  const directory = tempDir(t, { cert: 'secret', key: 'secret' });
  const args = [`--tls-cert-file=${directory}/cert`, `--tls-key-file=${directory}/key`];
  const { code, out, err } = await run(['serve', '--mode=format-only', '--listen=127.0.0.1:0', ...args]);
  t.strictSame([code, out], [2, '']);
  const fault = 'GATECAR_TLS_CERT_FILE must be a file that holds PEM certificates and nothing else';
  t.equal(err, `gatecar: ${fault}; got "${directory}/cert"\n`);
});

t.test('SIGTERM, SIGINT and SIGHUP drain, and the process exits with 0', async t => {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    const gatecar = await start(t, {});
    gatecar.kill(signal);
    t.equal(await gatecar.exitCode, 0, signal);
    t.match(gatecar.output(), /"msg":"stopped"/);
  }
});

t.test('a signal that arrives before gatecar listens is not lost', async t => {
  const directory = tempDir(t, {});
  const cert = join(directory, 'cert');
  execFileSync('mkfifo', [cert]);
  // biome-ignore format: a list of arguments
  const child = spawn(process.execPath, [
    MAIN, 'serve', '--listen=127.0.0.1:0', '--ops-listen=127.0.0.1:0', '--kube-api-url=http://[::1]:1',
    '--shutdown-delay=0s', `--tls-cert-file=${cert}`, `--tls-key-file=${TLS}/server.key`,
  ], { env: childEnv() });
  t.teardown(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  let writer: number | undefined;
  await until(() => {
    writer = openForWriting(cert);
    return writer !== undefined;
  });
  child.kill('SIGTERM');
  writeSync(writer as number, readFileSync(join(TLS, 'server.crt')));
  closeSync(writer as number);
  t.strictSame(await exited, [0, null]);
});

/** Opens a named pipe, which only succeeds while another process reads it. */
function openForWriting(path: string): number | undefined {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
}

t.test('a second signal exits immediately', async t => {
  const gatecar = await start(t, { GATECAR_SHUTDOWN_DELAY: '5m' });
  gatecar.kill('SIGTERM');
  await until(() => gatecar.output().includes('"msg":"draining"'));
  gatecar.kill('SIGHUP');
  t.equal(await gatecar.exitCode, 128 + 1);
});

t.test('SIGUSR1 opens no debugger, and SIGUSR2, SIGPIPE and SIGXFSZ are ignored', async t => {
  const gatecar = await start(t, {});
  for (const signal of ['SIGUSR1', 'SIGUSR2', 'SIGPIPE', 'SIGXFSZ'] as const) {
    gatecar.kill(signal);
    t.equal((await sendRequest(gatecar.ops, { path: '/livez' })).status, 200, signal);
  }
  gatecar.kill('SIGTERM');
  t.equal(await gatecar.exitCode, 0);
  t.notMatch(gatecar.output(), /Debugger listening/);
});

t.test('an uncaught error is logged without tokens, and the process exits with 1', async t => {
  const gatecar = await start(t, {});
  gatecar.throwUncaught('unexpected Bearer abc123');
  t.equal(await gatecar.exitCode, 1);
  t.match(gatecar.output(), /"level":"fatal".*unexpected Bearer \[token\].*"msg":"uncaught error"/);
});

t.test('an uncaught error at start is logged, and the process exits with 1', async t => {
  const breaks = `const freeze = Object.freeze;
    Object.freeze = value => {
      if (value?.cacheTtlMs !== undefined) throw new Error('unexpected at start');
      return freeze(value);
    };`;
  const { code, out } = await run(['serve'], {
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(breaks)}`,
  });
  t.equal(code, 1);
  t.match(out, /"level":"fatal".*unexpected at start.*"msg":"uncaught error"/);
});

t.test('gatecar without a command serves', async t => {
  const args = ['--listen=127.0.0.1:0', '--ops-listen=127.0.0.1:0', '--kube-api-url=http://127.0.0.1:1'];
  const child = spawn(process.execPath, [MAIN, ...args], { env: childEnv() });
  t.teardown(() => child.kill('SIGKILL'));
  let out = '';
  child.stdout.on('data', chunk => {
    out += chunk;
  });
  const exit = once(child, 'close');
  await until(() => out.includes('"msg":"listening"'));
  child.kill('SIGINT');
  await until(() => out.includes('"msg":"draining"'));
  child.kill('SIGINT');
  t.strictSame(await exit, [128 + 2, null]);
  t.notMatch(out, 'curl -i');
});

t.test('`gatecar dev` runs until it receives a signal', async t => {
  const args = ['dev', '--listen=127.0.0.1:0', '--ops-listen=127.0.0.1:0'];
  const child: ChildProcess = spawn(process.execPath, [MAIN, ...args], { env: childEnv() });
  t.teardown(() => child.kill('SIGKILL'));
  let out = '';
  child.stdout?.on('data', chunk => {
    out += chunk;
  });
  const exit = once(child, 'close');
  await until(() => out.includes('curl -i'));
  const auth = /^ +gatecar +(\S+)\/auth /m.exec(out)?.[1] ?? '';
  t.equal((await sendRequest(auth)).status, 401);
  child.kill('SIGTERM');
  t.strictSame(await exit, [0, null]);
});

t.test('in a pod gatecar reads the ServiceAccount that the kubelet mounts', async t => {
  const gatecar = await start(t, { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '1' }, false);
  await until(() => /serviceaccount\/\S+ cannot be read: ENOENT/.test(gatecar.output()));
  t.equal((await sendRequest(gatecar.ops, { path: '/readyz' })).status, 503);
  t.match(await sendRequest(gatecar.auth, { token: 'abc' }), {
    status: 503,
    body: '{"error":"Failed to create Kubernetes client"}',
  });
});

t.test('outside of a pod gatecar reads the user’s kubeconfig, and logs if there is none', async t => {
  const HOME = tempDir(t);
  const withoutHome = await start(t, {}, false);
  await until(() => withoutHome.output().includes('no API server is known: set GATECAR_KUBECONFIG'));
  const emptyHome = await start(t, { HOME: '' }, false);
  await until(() => emptyHome.output().includes('no API server is known: set GATECAR_KUBECONFIG'));
  const withHome = await start(t, { HOME }, false);
  await until(() => withHome.output().includes(`kubeconfig ${HOME}/.kube/config cannot be read: ENOENT`));
});

async function start(t: Test, settings: Record<string, string>, withApiServer = true) {
  const standIn = await startStandIn(hangs);
  t.teardown(() => standIn.close());
  const gatecar = await startGatecarProcess({
    ...(withApiServer && { GATECAR_KUBE_API_URL: standIn.url }),
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  return gatecar;
}

t.test('a command whose output cannot be written reports that and exits with 1', async t => {
  const err = 'gatecar: cannot write to standard output: ENOSPC\n';
  t.strictSame(await shell('gatecar --version >/dev/full'), { out: '', err, code: 1 });
});

t.test('a command whose reader has closed the pipe exits without an error text, as if by SIGPIPE', async t => {
  t.strictSame(await shell('gatecar --help | true; exit $PIPESTATUS'), { out: '', err: '', code: 141 });
});

t.test('an uncaught error is reported on standard error if standard output fails, with the lost lines', async t => {
  const breaks = `setTimeout(() => { throw new Error("unexpected"); }, 1)`;
  const options = `--import=data:text/javascript,${encodeURIComponent(breaks)}`;
  const serve = 'gatecar serve --listen=127.0.0.1:0 --ops-listen=127.0.0.1:0';
  t.match(await shell(`NODE_OPTIONS="$NODE_OPTIONS ${options}" ${serve} >/dev/full`), {
    code: 1,
    err: /^gatecar: uncaught error: unexpected\ngatecar: lines not written to standard output: \d+$/m,
  });
});
