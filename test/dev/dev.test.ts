import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { dev, programName } from '../../src/dev/dev.ts';
import { tempDir } from '../fixtures/temp-dir.ts';

const TLS = join(import.meta.dirname, '../fixtures/tls');

const QUIET = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0', GATECAR_LOG_LEVEL: 'silent' };

async function start(t: Test, env: Record<string, string> = {}, args: string[] = [], isTerminal = false) {
  let printed = '';
  const write = (text: string) => {
    printed += text;
  };
  const running = await dev(args, { ...QUIET, ...env }, { write, isTerminal });
  t.teardown(() => running.stop());
  return { printed, running };
}

/** Sends the request of a printed line: `curl -i -H @file [--unix-socket path] url`. */
function runCurl(line: string): Promise<{ status: number; user: string | undefined }> {
  const [, file = '', socketPath, url = ''] = /^curl -i -H @(\S+) (?:--unix-socket (\S+) )?(\S+)$/.exec(line) ?? [];
  const [name = '', value = ''] = readFileSync(file, 'utf8').trimEnd().split(': ');
  return new Promise((resolve, reject) => {
    const options = { headers: { [name]: value }, ...(socketPath !== undefined && { socketPath }) };
    const sent = request(url, options, response => {
      response.resume();
      const user = response.headers['x-auth-request-user'];
      resolve({ status: response.statusCode ?? 0, user: String(user) });
    });
    sent.once('error', reject).end();
  });
}

const curls = (printed: string) => printed.split('\n').filter(line => line.startsWith('curl '));

/** The directory with the tokens. */
const directoryOf = (printed: string) => /@(\S+)\/valid/.exec(printed)?.[1] ?? '';

t.test('`gatecar dev` prints a curl line for an allowed token and for three denied ones', async t => {
  const { printed, running } = await start(t);
  t.match(printed, running.auth);
  t.match(printed, running.ops);
  const answers = await Promise.all(curls(printed).map(runCurl));
  t.strictSame(
    answers.map(({ status }) => status),
    [200, 401, 401, 401],
  );
  t.equal(answers[0]?.user, 'system:serviceaccount:default:my-app');
});

t.test('the allowed token of `gatecar dev` follows the settings', async t => {
  const account = 'system:serviceaccount:dns-system:external-dns';
  const list = await start(t, { GATECAR_ALLOWED_SERVICE_ACCOUNTS: account, BIND_ALLOWED_NAMESPACES: 'dns-system' });
  t.match(await runCurl(curls(list.printed)[0] ?? ''), { status: 200, user: account });
  const noAudience = await start(t, { GATECAR_TOKEN_AUDIENCES: '' }, ['--allowed-namespaces=ci']);
  t.match(await runCurl(curls(noAudience.printed)[0] ?? ''), { status: 200, user: 'system:serviceaccount:ci:my-app' });
});

t.test('`gatecar dev` needs only a list of ServiceAccounts, from any source', async t => {
  const account = 'system:serviceaccount:dns-system:external-dns';
  const sources: [env: Record<string, string>, args: string[]][] = [
    [{ GATECAR_ALLOWED_SERVICE_ACCOUNTS: account }, []],
    [{ BIND_ALLOWED_SERVICE_ACCOUNTS: account }, []],
    [{}, [`--allowed-service-accounts=${account}`]],
    [{}, ['--allowed-service-accounts', account]],
  ];
  for (const [env, args] of sources) {
    const { printed } = await start(t, env, args);
    const answers = await Promise.all(curls(printed).map(runCurl));
    t.strictSame(
      answers.map(({ status }) => status),
      [200, 401, 401, 401],
    );
    t.equal(answers[0]?.user, account);
  }
});

t.test('the printed status for a blocked namespace is the status of the response', async t => {
  const { printed } = await start(t, { GATECAR_POLICY_DENIED_STATUS: '403' });
  t.match(printed, 'denied 403  blocked namespace  namespace_denied\n');
  t.match(await runCurl(curls(printed)[2] ?? ''), { status: 403 });
});

t.test('the samples are denied with an allowlist of their names, and are left out in the mode format-only', async t => {
  const { printed } = await start(t, {}, ['--allowed-namespaces=blocked']);
  t.match(printed, 'denied 401  blocked namespace  namespace_denied\n');
  const formatOnly = await start(t, { GATECAR_MODE: 'format-only' });
  t.match(formatOnly.printed, 'ok     200  valid token');
  t.equal(curls(formatOnly.printed).length, 1);
});

t.test('`gatecar dev` ignores settings for a real API server', async t => {
  const { printed } = await start(t, { KUBECONFIG: '/nowhere', KUBE_API_SERVER: 'https://nowhere.invalid' });
  t.match(await runCurl(curls(printed)[0] ?? ''), { status: 200 });
});

t.test('the printed curl lines reach a listener on all addresses and on a Unix socket', async t => {
  const everywhere = await start(t, { GATECAR_LISTEN: '0.0.0.0:0' });
  t.match(curls(everywhere.printed)[0], /http:\/\/127\.0\.0\.1:\d+\/auth$/);
  const socket = await start(t, { GATECAR_LISTEN: `unix:${tempDir(t)}/s` });
  t.match(await runCurl(curls(socket.printed)[0] ?? ''), { status: 200 });
});

t.test('an invalid setting of `gatecar dev` is a ConfigError, and nothing is left running', async t => {
  await t.rejects(dev(['--cache-ttl=never'], QUIET, { write: () => {}, isTerminal: false }), { name: 'ConfigError' });
});

t.test('a failure after the start stops the server and removes the tokens', async t => {
  const directory = tempDir(t);
  const socket = `${tempDir(t)}/s`;
  const env = { ...QUIET, GATECAR_LISTEN: `unix:${socket}` };
  const temporary = process.env['TMPDIR'];
  t.teardown(() => {
    if (temporary === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = temporary;
  });
  const fails = async (write: () => void, directory: string, message: RegExp) => {
    process.env['TMPDIR'] = directory;
    await t.rejects(dev([], env, { write, isTerminal: false }), { message });
    t.notOk(existsSync(socket), 'no listener is left');
  };
  await fails(() => {}, '/nowhere', /ENOENT/);
  const write = () => {
    t.equal(readdirSync(directory).length, 1);
    throw new Error('not written');
  };
  await fails(write, directory, /^not written$/);
  t.strictSame(readdirSync(directory), []);
});

t.test('the page shows what was tried, has only short lines, and is coloured on a terminal only', async t => {
  const { printed } = await start(t);
  t.match(printed, 'ok     200  valid token        system:serviceaccount:default:my-app\n');
  t.match(printed, 'denied 401  wrong audience     token_rejected\n');
  t.match(printed, 'denied 401  blocked namespace  namespace_denied\n');
  t.match(printed, 'denied 401  expired            token_rejected\n');
  t.match(printed, /\n {2}npx node src\/main\.ts explain --kube-api-url=http:\/\/127\.0\.0\.1:\d+ \S+\/expired\n/);
  for (const line of printed.split('\n')) t.ok(line.length <= 100, line);
  t.notMatch(printed, /\u001b|eyJ/, 'and no token');
  t.notMatch(printed, /[✓✗]/, 'nor a symbol, which not every reader of a pipe can show');
  t.match((await start(t, {}, [], true)).printed, '\u001b[32m✓\u001b[0m \u001b[32m200\u001b[0m  valid token');
  const plain = (await start(t, { NO_COLOR: '1' }, [], true)).printed;
  t.match(plain, '  ✓ 200  valid token        system:serviceaccount:default:my-app\n');
  t.notMatch(plain, '\u001b');
  t.match((await start(t, { TERM: 'dumb' }, [], true)).printed, 'denied 401  expired');
});

t.test('the files of the tokens are private, and are removed when it stops', async t => {
  const { printed, running } = await start(t);
  const directory = directoryOf(printed);
  t.equal(statSync(directory).mode & 0o777, 0o700);
  t.strictSame(readdirSync(directory).sort(), ['audience', 'expired', 'namespace', 'valid']);
  for (const name of readdirSync(directory)) t.equal(statSync(`${directory}/${name}`).mode & 0o777, 0o600, name);
  await running.stop();
  t.notOk(existsSync(directory));
});

t.test('commands are printed as the user runs this program', async t => {
  t.equal(programName(), 'npx node src/main.ts');
  t.equal(programName('/app/dist/chunk.js'), 'gatecar');
});

t.test('a listener with TLS is asked with TLS', async t => {
  const files = { GATECAR_TLS_CERT_FILE: `${TLS}/server.crt`, GATECAR_TLS_KEY_FILE: `${TLS}/server.key` };
  const { printed } = await start(t, files);
  t.match(printed, 'ok     200  valid token');
  t.match(curls(printed)[0], /^curl -i -H @\S+ -k https:\/\/127\.0\.0\.1:\d+\/auth$/);
});
