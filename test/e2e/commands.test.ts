import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { request as requestTls } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Checked } from '../../src/cli/check/check.ts';
import type { Explained } from '../../src/cli/explain/explain.ts';
import { leaked } from '../fixtures/find-token.ts';
import { createAuthority } from './fixtures/support/certificates.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { MAIN, runGatecar, runProgram } from './fixtures/support/gatecar-command.ts';
import { type KubeApiServer, kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// Runs the commands that operators use during an outage on the real API server. They must report
// the cause and exit code, and print no token.

const audiences = ['bindcar'];
const FREE = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0' };

t.setTimeout(startLimitMs);

t.test('check and explain report the cause of each fault', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings, tokenFile } = await startCluster(t);
  await api.createServiceAccount('ci', 'builder');
  const token = await api.requestToken('ci', 'builder', { audiences });
  const secrets = [token, api.adminToken, await readFile(tokenFile, 'utf8')];

  /** Writes a credential of gatecar into a file, and returns settings that use it. */
  const withCredential = async (name: string, credential: string) => {
    secrets.push(credential);
    const file = join(api.directory, `own-${name}`);
    await writeFile(file, credential);
    return { ...settings, GATECAR_KUBE_TOKEN_FILE: file };
  };
  /** Runs a command in both formats. Both must agree and print no token. */
  const runBoth = async (t: Test, command: string, env: Record<string, string>, input = '') => {
    const text = await runGatecar([command], { ...FREE, ...env }, input);
    const json = await runGatecar([command, '--output=json'], { ...FREE, ...env }, input);
    t.strictSame([text.code, text.err, json.err], [json.code, '', '']);
    t.equal(leaked(text.out + json.out, secrets), undefined, 'no token is printed');
    return { code: json.code, text: text.out, document: JSON.parse(json.out) };
  };
  const check = async (t: Test, env: Record<string, string>) => {
    const { code, text, document } = await runBoth(t, 'check', env);
    const { ok, findings } = document as Checked;
    t.equal(code, ok ? 0 : 1);
    for (const { check, result } of findings)
      if (result === 'fail') t.match(text, new RegExp(`^fail {2}${check} `, 'm'));
    return { code, findings, failed: findings.filter(({ result }) => result === 'fail').map(({ check }) => check) };
  };
  const explain = async (t: Test, env: Record<string, string>, input = token) => {
    const { code, document } = await runBoth(t, 'explain', env, input);
    const { steps, decision, headers } = document as Explained;
    const by = Object.fromEntries(steps.map(({ step, ...outcome }) => [step, outcome]));
    return { code, steps: by, decision, headers };
  };
  const outage = { code: 3, decision: { kind: 'unavailable', reason: 'authority_unavailable', status: 503 } };

  t.test('check and explain succeed if all is well', async t => {
    t.match(await check(t, settings), { code: 0, failed: [] });
    const { findings } = await check(t, settings);
    t.match(findings, [
      { check: 'configuration' },
      { check: 'address' },
      { check: 'tls', text: /by the configured CA/ },
      { check: 'credential', text: /^a token of "system:serviceaccount:gatecar:gatecar"/ },
      { check: 'review', result: 'ok' },
      { check: 'rbac', text: 'gatecar may create TokenReviews' },
      { check: 'audience', text: 'the API server enforces audiences: a token that is not for ["bindcar"] is rejected' },
      { check: 'clock', result: 'ok' },
      { check: 'allowlists' },
      { check: 'listeners' },
      { check: 'listeners' },
      { check: 'memory', result: 'ok' },
    ]);
    t.match(await explain(t, settings), {
      code: 0,
      steps: { signature: { result: 'passes' }, review: { result: 'passes' }, clock: { result: 'passes' } },
      headers: { 'X-Auth-Request-User': 'system:serviceaccount:ci:builder' },
    });
  });

  t.test('no API server: check and explain report the address', async t => {
    const unreachable = { ...settings, GATECAR_KUBE_API_URL: `https://127.0.0.1:${await freePort()}` };
    t.match(await check(t, unreachable), { code: 1, failed: ['address'] });
    t.match(await explain(t, unreachable), {
      ...outage,
      steps: { review: { result: 'fault', text: /no process listens/ } },
    });
  });

  t.test('wrong CA: check and explain report it', async t => {
    const { certFile } = await createAuthority(join(api.directory, 'other-ca'), 'other-ca');
    const wrong = { ...settings, GATECAR_KUBE_CA_FILE: certFile };
    const { code, failed, findings } = await check(t, wrong);
    t.strictSame([code, failed], [1, ['tls']]);
    t.match(
      findings.find(({ check }) => check === 'tls'),
      { text: /"kube-apiserver-ca", which is not the configured CA/ },
    );
    t.match(await explain(t, wrong), {
      ...outage,
      steps: { review: { text: /certificate is not valid for its address/ } },
    });
  });

  t.test('expired credential: check and explain report it', async t => {
    const hourAgo = Math.floor(Date.now() / 1000) - 3600;
    const times = { exp: hourAgo, iat: hourAgo - 3600, nbf: hourAgo - 3600 };
    const expired = await withCredential('expired', api.signToken(await api.claimsFor('gatecar', 'gatecar', times)));
    const { code, failed, findings } = await check(t, expired);
    t.strictSame([code, failed], [1, ['credential', 'review']]);
    t.match(
      findings.find(({ check }) => check === 'credential'),
      { text: /which expired / },
    );
    t.match(await explain(t, expired), { ...outage, steps: { review: { text: /rejects gatecar's own credential/ } } });
  });

  t.test('missing RBAC: check and explain report it', async t => {
    await api.createServiceAccount('gatecar', 'powerless');
    const powerless = await withCredential('powerless', await api.requestToken('gatecar', 'powerless'));
    const { code, failed, findings } = await check(t, powerless);
    t.strictSame([code, failed], [1, ['review', 'rbac']]);
    t.match(
      findings.find(({ check }) => check === 'rbac'),
      {
        text: 'system:serviceaccount:gatecar:powerless may not create TokenReviews',
        fix: /--as=system:serviceaccount:gatecar:powerless /,
      },
    );
    t.match(await explain(t, powerless), {
      ...outage,
      steps: { review: { fix: /^kubectl apply -k rbac\/ .*--set rbac\.create=true$/ } },
    });
  });

  t.test('wrong audience of gatecar’s own token or of the client’s: check and explain report it', async t => {
    const wrong = await withCredential('audience', await api.requestToken('gatecar', 'gatecar', { audiences }));
    const { code, failed, findings } = await check(t, wrong);
    t.strictSame([code, failed], [1, ['review']]);
    t.match(
      findings.find(({ check }) => check === 'review'),
      { text: /gatecar's is for \["bindcar"\], which must be/ },
    );
    const elsewhere = await api.requestToken('ci', 'builder', { audiences: ['elsewhere'] });
    secrets.push(elsewhere);
    for (const checks of ['signature', 'off']) {
      t.match(await explain(t, { ...settings, GATECAR_JWT_PRECHECK: checks }, elsewhere), {
        code: 1,
        decision: { reason: 'token_rejected', text: /token audiences \["elsewhere"\] is invalid for the target/ },
      });
    }
  });

  t.test('namespace not allowed: explain suggests the setting, and check names unknown namespaces', async t => {
    t.match(await explain(t, { ...settings, GATECAR_ALLOWED_NAMESPACES: 'dns' }), {
      code: 1,
      decision: { kind: 'deny', reason: 'namespace_denied', status: 401 },
      steps: { policy: { result: 'rejects', fix: 'GATECAR_ALLOWED_NAMESPACES=dns,ci' } },
    });
    const listed = {
      GATECAR_ALLOWED_NAMESPACES: 'ci,typo',
      GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:ci:builder',
    };
    const allowlists = async (env: Record<string, string>) =>
      (await check(t, { ...env, ...listed })).findings.find(({ check }) => check === 'allowlists');
    t.match(await allowlists(settings), { result: 'ok', text: /^not checked, because gatecar may not read them/ });
    t.match(await allowlists(await withCredential('admin', api.adminToken)), {
      result: 'warn',
      text: /^\["typo"\] are listed/,
    });
  });

  t.test('clock off by ten minutes: check and explain warn', async t => {
    const url = await startTimeShift(t, api, -600_000);
    const shifted = { ...settings, GATECAR_KUBE_API_URL: url };
    const { code, failed, findings } = await check(t, shifted);
    t.strictSame([code, failed], [0, []]);
    t.match(
      findings.find(({ check }) => check === 'clock'),
      { result: 'warn', text: /clock is (599|600|601) s ahead of the API server's/ },
    );
    t.match(await explain(t, shifted), { code: 0, steps: { clock: { result: 'warning', text: /ahead of/ } } });
  });

  t.test('the two commands of docs/troubleshooting.md run as written', async t => {
    const page = await readFile(join(import.meta.dirname, '../../docs/troubleshooting.md'), 'utf8');
    const section = /## Two commands\n([\s\S]*?)\n## /.exec(page)?.[1] ?? '';
    const scripts = [...section.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, script]) => script ?? '');
    const directory = await mkdtemp(join(tmpdir(), 'gatecar-e2e-kubectl-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    await writeFile(join(directory, 'token'), token);
    // Only gatecar runs in that pod, so kubectl needs no real cluster.
    const kubectl = [
      '#!/bin/sh',
      `[ "$1 $2" = "create token" ] && exec cat '${join(directory, 'token')}'`,
      'while [ "$1" != -- ]; do shift; done',
      '[ "$2 $3" = "/nodejs/bin/node /app/dist/gatecar.js" ] || exit 9',
      `shift 3; exec '${process.execPath}' '${MAIN}' "$@"`,
    ];
    await writeFile(join(directory, 'kubectl'), kubectl.join('\n'));
    await chmod(join(directory, 'kubectl'), 0o700);
    const env = { ...FREE, ...settings, PATH: `${directory}:${process.env['PATH']}` };
    const runs = [];
    for (const script of scripts) runs.push(await runProgram('/bin/sh', ['-ec', script], env));
    t.match(runs, [
      { code: 0, out: /^ok {4}review/m, err: '' },
      { code: 0, out: /^decision: allow/m, err: '' },
    ]);
    t.equal(leaked(runs.map(({ out }) => out).join(''), secrets), undefined);
  });
});

/** Starts a plain HTTP proxy before the API server that shifts the `Date` of its responses. */
async function startTimeShift(t: Test, api: KubeApiServer, byMs: number): Promise<string> {
  const server = createServer((request, response) => {
    const { method, url: path, headers } = request;
    const { port } = new URL(api.url);
    const onward = requestTls(
      { host: '127.0.0.1', port, ca: api.ca, method, path, headers },
      (answer: IncomingMessage) => {
        const date = new Date(Date.now() + byMs).toUTCString();
        response.writeHead(answer.statusCode ?? 0, { ...answer.headers, date });
        answer.pipe(response);
      },
    );
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
