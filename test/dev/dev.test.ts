import { request } from 'node:http';
import t, { type Test } from 'tap';
import { dev } from '../../src/dev/dev.ts';
import { tempDir } from '../fixtures/temp-dir.ts';

const QUIET = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0', GATECAR_LOG_LEVEL: 'silent' };

async function start(t: Test, env: Record<string, string> = {}, args: string[] = []) {
  let printed = '';
  const running = await dev(args, { ...QUIET, ...env }, text => {
    printed += text;
  });
  t.teardown(() => running.stop());
  return { printed, running };
}

/** Sends the request of a printed line: `curl -i -H "Name: value" [--unix-socket path] url`. */
function runCurl(line: string): Promise<{ status: number; user: string | undefined }> {
  const [, header = '', socketPath, url = ''] =
    /^curl -i -H "([^"]+)" (?:--unix-socket (\S+) )?(\S+)$/.exec(line) ?? [];
  const [name = '', value = ''] = header.split(': ');
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
  t.match(printed, 'One from a blocked namespace (403):');
  t.match(await runCurl(curls(printed)[2] ?? ''), { status: 403 });
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
  await t.rejects(
    dev(['--cache-ttl=never'], QUIET, () => {}),
    { name: 'ConfigError' },
  );
});
