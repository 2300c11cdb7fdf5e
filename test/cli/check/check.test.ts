import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { TOKEN_REVIEW_PATH } from '../../../src/authentication/token-review.ts';
import { type Checked, checkCommand } from '../../../src/cli/check/check.ts';
import type { CheckResult } from '../../../src/cli/check/check-result.ts';
import { checkMemory } from '../../../src/cli/check/memory.ts';
import { readConfig } from '../../../src/config/load.ts';
import { revealToken } from '../../../src/credential/token.ts';
import { CONNECTION_BYTES } from '../../../src/limits/constants.ts';
import { processLimits } from '../../../src/limits/process-limits.ts';
import { type CommandOptions, runCommand } from '../../fixtures/command.ts';
import { leaked } from '../../fixtures/find-token.ts';
import { startGatecar } from '../../fixtures/gatecar.ts';
import { kubeconfig } from '../../fixtures/kubeconfig.ts';
import { accepts, answers, type Behaviour, hangs, reviews, startStandIn } from '../../fixtures/stand-in-api-server.ts';
import { tempDir } from '../../fixtures/temp-dir.ts';
import { pem, startTlsServer } from '../../fixtures/tls-server.ts';
import { unsignedJwt } from '../../fixtures/unsigned-jwt.ts';

const FREE = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0' };
const NOW = Date.UTC(2025, 5, 1, 12);
const SUB = 'system:serviceaccount:gatecar:gatecar';
const OWN_CLAIMS = { sub: SUB, aud: ['https://kubernetes.default.svc'], exp: NOW / 1000 + 3600 };
const rejects = reviews({ error: 'invalid bearer token' });

/** Runs the command. @returns its findings, and the last finding of each check by its name. */
async function check(settings: Record<string, string>, more: CommandOptions = {}) {
  const { code, out } = await runCommand(checkCommand, {
    args: ['--output=json'],
    env: { ...FREE, ...settings },
    wallClock: () => NOW,
    ...more,
  });
  const { ok, findings } = JSON.parse(out) as Checked;
  t.equal(code, ok ? 0 : 1);
  const by: Record<string, Omit<CheckResult, 'check'>> = {};
  for (const { check, ...result } of findings) by[check] = result;
  return { code, out, findings, by };
}

const MIB = 1024 * 1024;
const TLS = { GATECAR_TLS_CERT_FILE: '/cert.pem', GATECAR_TLS_KEY_FILE: '/key.pem' };
const { http, grpc, tls } = CONNECTION_BYTES;

/** How many connections of this size fit into 256 MiB, with a cache of 10,000 entries. */
function fitting(bytes: number): number {
  return Math.floor(processLimits({ limitBytes: 256 * MIB, heapBytes: 1024 * MIB }, 10_000).connectionsBytes / bytes);
}

/** The finding for a process with this memory. The default is more than any case needs. */
async function memory(settings: Record<string, string>, detected = { limitBytes: 1024 * MIB, heapBytes: 1024 * MIB }) {
  return checkMemory(readConfig([], settings), detected);
}

/** Starts an API server with behaviours for TokenReviews and for SelfSubjectAccessReviews. */
async function apiServer(t: Test, review: Behaviour, access: Behaviour = answers(201, { status: { allowed: true } })) {
  const date = new Date(NOW).toUTCString();
  const api = await startStandIn((request, response) => {
    response.setHeader('date', date);
    (request.path === TOKEN_REVIEW_PATH ? review : access)(request, response);
  });
  t.teardown(() => api.close());
  return api;
}

async function listening(t: Test, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Settings for an API server, with gatecar's own token. */
function withOwnToken(t: Test, url: string, claims: Record<string, unknown> | string = OWN_CLAIMS) {
  const token = typeof claims === 'string' ? claims : revealToken(unsignedJwt(claims));
  const directory = tempDir(t, { token });
  return { token, settings: { GATECAR_KUBE_API_URL: url, GATECAR_KUBE_TOKEN_FILE: join(directory, 'token') } };
}

t.test('if every check passes, each line is ok and the exit code is 0', async t => {
  const api = await apiServer(t, rejects);
  const { settings, token } = withOwnToken(t, api.url);
  const { code, out } = await runCommand(checkCommand, { env: { ...FREE, ...settings }, wallClock: () => NOW });
  t.equal(code, 0);
  // biome-ignore format: a list of lines
  t.strictSame(
    out.split('\n').map(line => line.split(/ {2,}/, 2).join(' ')),
    [
      'ok configuration', 'ok address', 'ok tls', 'ok credential', 'ok review', 'ok rbac', 'ok audience',
      'ok clock', 'ok allowlists', 'ok listeners', 'ok listeners', 'ok memory', '',
      'gatecar works with these settings', '',
    ],
  );
  t.match(out, `a token of "${SUB}" for ["https://kubernetes.default.svc"], until 2025-06-01T13:00:00.000Z`);
  t.equal(leaked(out, [token]), undefined);
  t.strictSame(
    api.requests.map(({ path }) => path.split('/').at(-1)),
    ['tokenreviews', 'selfsubjectaccessreviews', 'tokenreviews'],
  );
});

t.test('every invalid setting is a failed check', async t => {
  const { code, findings } = await check({ GATECAR_MODE: 'open', GATECAR_CACHE_TTL: '1h' });
  t.equal(code, 1);
  t.match(findings, [
    { check: 'configuration', result: 'fail', text: /^GATECAR_MODE must be/, fix: 'gatecar --help' },
    { check: 'configuration', result: 'fail', text: /^GATECAR_CACHE_TTL must be/ },
  ]);
});

t.test('in format-only mode the configuration is a warning and no API server is checked', async t => {
  const { code, findings } = await check({ GATECAR_MODE: 'format-only' });
  t.equal(code, 0);
  t.match(findings[0], { check: 'configuration', result: 'warn', text: /NOT verified/ });
  t.strictSame([...new Set(findings.map(finding => finding.check))], ['configuration', 'listeners', 'memory']);
});

t.test('an operand of `gatecar check` is a usage error and is not repeated', async t => {
  const error = await t.rejects(runCommand(checkCommand, { args: ['secret'] }), { name: 'UsageError' });
  t.notMatch(String(error), 'secret');
});

t.test('a missing API server address or file is a failure with a fix', async t => {
  const credential = async (settings: Record<string, string>, more: CommandOptions = {}) =>
    (await check(settings, more)).by['credential'];
  t.match(await credential({}), { result: 'fail', text: /^no API server is known/, fix: /GATECAR_KUBE_API_URL/ });
  t.match(await credential({ GATECAR_KUBECONFIG: '/nowhere' }), {
    result: 'fail',
    text: 'kubeconfig /nowhere cannot be read: ENOENT',
    fix: /the file does not exist; set GATECAR_KUBECONFIG/,
  });
  t.match(await credential({ GATECAR_KUBECONFIG: '/' }), {
    text: 'kubeconfig / cannot be read: EISDIR',
    fix: /^kubectl config view/,
  });
  const inPod = { GATECAR_KUBE_API_URL: 'https://127.0.0.1:1' };
  t.match(await credential(inPod, { inCluster: { host: '127.0.0.1', port: '1' } }), {
    text: /ENOENT$/,
    fix: /^kubectl describe pod/,
  });
});

t.test('an address that does not resolve, refuses connections or is silent is reported as such', async t => {
  const address = async (url: string, more: Record<string, string> = {}) =>
    (await check({ GATECAR_KUBE_API_URL: url, ...more })).by;
  t.match((await address('https://gatecar.invalid'))['address'], {
    result: 'fail',
    text: /does not resolve \(E/,
    fix: /^kubectl/,
  });
  t.match((await address('http://127.0.0.1:1'))['address'], { result: 'fail', text: /refuses connections/ });
  t.match((await address('http://[::1]:1'))['address'], { result: 'fail' });
  const unreachable = await address('http://0.0.0.0:1');
  t.strictSame(
    Object.keys(unreachable),
    ['configuration', 'address', 'credential', 'listeners', 'memory'],
    'no review is sent',
  );
  const silent = `https://${await listening(t, createServer())}`;
  t.match((await address(silent, { GATECAR_REVIEW_TIMEOUT: '50ms' }))['tls'], {
    result: 'fail',
    text: /TLS with gatecar \(timeout\)$/,
  });
});

t.test('an unreachable network is reported with its error code', async t => {
  // TCP cannot connect to the broadcast address (RFC 919).
  const { by } = await check({ GATECAR_KUBE_API_URL: 'http://255.255.255.255', GATECAR_REVIEW_TIMEOUT: '50ms' });
  t.match(by['address'], { result: 'fail', text: /cannot be reached \((timeout|E[A-Z]+)\)$/ });
});

t.test('an API server certificate that is untrusted, expired or for another name is reported as such', async t => {
  const directory = tempDir(t, {
    ca: pem('ca.crt'),
    other: pem('other-ca.crt'),
    expired: pem('server-expired.crt'),
    none: 'no certificate',
  });
  const tls = async (certificate: string, ca: string, host = '127.0.0.1', nowMs = NOW) => {
    const server = await startTlsServer(t, certificate);
    const settings = {
      GATECAR_KUBE_API_URL: server.url.replace('127.0.0.1', host),
      GATECAR_KUBE_CA_FILE: join(directory, ca),
    };
    return (await check(settings, { wallClock: () => nowMs })).by['tls'];
  };
  t.match(await tls('server', 'ca'), { result: 'ok', text: /by the configured CA; valid until / });
  t.match(await tls('server', 'ca', 'localhost'), { result: 'ok' });
  t.match(await tls('server', 'ca', '127.0.0.1', Date.UTC(2126, 10, 3)), { result: 'warn', fix: /^kubeadm/ });
  t.match(await tls('server', 'other'), {
    result: 'fail',
    text: /^the certificate is of "gatecar-test-ca", which is not the configured CA \([A-Z_]+\)$/,
    fix: /# for GATECAR_KUBE_CA_FILE$/,
  });
  t.match(await tls('server-by-name', 'ca'), {
    result: 'fail',
    text: /^the certificate is for "DNS:kubernetes.default.svc", not for the host/,
  });
  t.match(await tls('server-expired', 'expired'), {
    result: 'fail',
    text: /^the certificate has expired: Jan {2}1 .*2020 GMT to Jan {2}2 .*; it is /,
  });
});

t.test('a server without TLS and invalid TLS material are failures, and skipped verification is a warning', async t => {
  const plain = await startStandIn(rejects);
  t.teardown(() => plain.close());
  const { by } = await check({ GATECAR_KUBE_API_URL: plain.url.replace('http:', 'https:') });
  t.match(by['tls'], { result: 'fail', text: /does not speak TLS with gatecar \([A-Z_]+\)$/ });
  const server = await startTlsServer(t);
  const file = (user: Record<string, unknown>, cluster: Record<string, unknown> = {}) =>
    join(tempDir(t, { kubeconfig: kubeconfig({ cluster: { server: server.url, ...cluster }, user }) }), 'kubeconfig');
  const data = (text: string) => Buffer.from(text).toString('base64');
  const broken = await check({
    GATECAR_KUBECONFIG: file({ 'client-certificate-data': data('broken'), 'client-key-data': data('broken') }),
  });
  t.match(broken.by, {
    tls: { result: 'fail', text: /^the CA bundle or the client certificate cannot be used \(ERR_/ },
    credential: { result: 'fail', text: 'the client certificate cannot be read' },
  });
  const insecure = await check({ GATECAR_KUBECONFIG: file({}, { 'insecure-skip-tls-verify': true }) });
  t.match(insecure.by['tls'], { result: 'warn', text: /^insecure-skip-tls-verify/ });
});

t.test('the address of an API server behind a proxy is not probed', async t => {
  const cluster = { server: 'https://api.invalid', 'proxy-url': 'http://user:s3cret@127.0.0.1:1' };
  const directory = tempDir(t, { kubeconfig: kubeconfig({ cluster }) });
  const { by, out } = await check({ GATECAR_KUBECONFIG: join(directory, 'kubeconfig') });
  t.match(by['address'], { result: 'ok', text: /^https:\/\/api\.invalid through the proxy 127\.0\.0\.1:1,/ });
  t.match(by['review'], { result: 'fail' });
  t.notMatch(out, 's3cret');
});

t.test('user name and password in a cluster’s URL are not printed', async t => {
  const plain = await startStandIn(rejects);
  t.teardown(() => plain.close());
  for (const server of ['http://user:s3cret@127.0.0.1:1', plain.url.replace('http://', 'https://user:s3cret@')]) {
    const directory = tempDir(t, { kubeconfig: kubeconfig({ cluster: { server } }) });
    const { by, out } = await check({ GATECAR_KUBECONFIG: join(directory, 'kubeconfig') });
    t.match((by['tls'] ?? by['address'])?.text, /^https?:\/\/127\.0\.0\.1:/);
    t.notMatch(out, 's3cret');
  }
});

t.test('a token used as a name is redacted, and control characters in a name are escaped', async t => {
  const token = revealToken(unsignedJwt(OWN_CLAIMS));
  const run = (env: Record<string, string>) => runCommand(checkCommand, { env: { ...FREE, ...env } });
  for (const env of [
    { GATECAR_KUBE_API_URL: 'http://127.0.0.1:1', GATECAR_KUBE_TOKEN_FILE: token },
    { GATECAR_ALLOWED_NAMESPACES: token },
  ]) {
    const { code, out } = await run(env);
    t.equal(code, 1);
    t.match(out, '[token]');
    t.notMatch(out, token);
  }
  const directory = tempDir(t, { kubeconfig: kubeconfig({ 'current-context': 'a\u001b[2J' }) });
  const { out } = await run({ GATECAR_KUBECONFIG: join(directory, 'kubeconfig') });
  t.match(out, 'there is no context "a\\u001b[2J"');
});

t.test('gatecar’s own credential is described by kind and expiry', async t => {
  const api = await apiServer(t, rejects);
  const credential = async (claims: Record<string, unknown> | string) =>
    (await check(withOwnToken(t, api.url, claims).settings)).by['credential'];
  t.match(await credential({ ...OWN_CLAIMS, exp: NOW / 1000 - 1 }), {
    result: 'fail',
    text: /which expired 2025-06-01T11:59:59.000Z; it is 2025-06-01T12:00:00.000Z here$/,
    fix: /^kubectl create token gatecar/,
  });
  t.match(await credential({ sub: SUB }), { result: 'ok', text: /for \[\], which never expires$/ });
  t.match(await credential({ ...OWN_CLAIMS, exp: 1e300 }), { result: 'ok', text: /until \+275760-/ });
  t.match(await credential('opaque'), { result: 'ok', text: /^an opaque bearer token/ });

  const server = await startTlsServer(t);
  const data = (name: string) => Buffer.from(pem(name)).toString('base64');
  const user = async (fields: Record<string, unknown>, nowMs = NOW) => {
    const cluster = { server: server.url, 'certificate-authority-data': data('ca.crt') };
    const directory = tempDir(t, { kubeconfig: kubeconfig({ cluster, user: fields }) });
    return (await check({ GATECAR_KUBECONFIG: join(directory, 'kubeconfig') }, { wallClock: () => nowMs })).by[
      'credential'
    ];
  };
  const certificate = { 'client-certificate-data': data('client.crt'), 'client-key-data': data('client.key') };
  t.match(await user(certificate), {
    result: 'ok',
    text: /^a client certificate of "O=gatecar\\nCN=gatecar", until 2126-/,
  });
  t.match(await user(certificate, Date.UTC(2200, 0)), { result: 'fail', text: /, which expired 2126-/ });
  t.match(await user({ username: 'jane', password: 's3cret' }), { result: 'ok', text: 'name and password' });
  t.match(await user({}), { result: 'warn', text: 'none: the API server sees gatecar as system:anonymous' });
});

t.test('a failed trial review is reported with its cause and a fix', async t => {
  const trial = async (behaviour: Behaviour, claims: Record<string, unknown> | string = OWN_CLAIMS) => {
    const api = await apiServer(t, behaviour, answers(201, { status: { allowed: false } }));
    return (await check(withOwnToken(t, api.url, claims).settings)).by;
  };
  t.match((await trial(answers(401, {})))['review'], {
    result: 'fail',
    text: /rejects gatecar's own credential.*\(unauthorized \(HTTP 401\)\); gatecar's is for \["https:\/\/kubernetes.default.svc"\]/,
    fix: /^kubectl create token gatecar/,
  });
  t.notMatch((await trial(answers(401, {}), 'opaque'))['review']?.text, "gatecar's is for");
  t.match(await trial(answers(403, {})), {
    review: {
      result: 'fail',
      text: `${SUB}: gatecar may not create TokenReviews (forbidden (HTTP 403))`,
      fix: /^kubectl apply -k rbac\/ .*--set rbac\.create=true$/,
    },
    rbac: { result: 'fail', text: `${SUB} may not create TokenReviews`, fix: new RegExp(`--as=${SUB} `) },
  });
  t.match((await trial(answers(403, {}), { sub: 'a; rm -rf /' }))['review'], {
    text: /^system:serviceaccount:gatecar:gatecar: /,
  });
  t.match((await trial(accepts()))['review'], { result: 'fail', text: /accepts any token$/ });
  t.match((await trial(answers(500, {})))['review'], { result: 'fail', text: /fails \(5xx\)/ });
});

t.test('if access reviews are forbidden, the trial review decides', async t => {
  for (const access of [answers(403, {}), answers(201, 'no JSON'), answers(201, {})]) {
    const { by, code } = await check({ GATECAR_KUBE_API_URL: (await apiServer(t, rejects, access)).url });
    t.match(by['rbac'], { result: 'ok', text: /^not checked: the API server does not answer/ });
    t.equal(code, 0);
  }
});

t.test('an API server that ignores audiences is a failure, and one that checks them is ok', async t => {
  const audience = async (
    ownReview: Behaviour,
    settings: Record<string, string> = {},
    claims: Record<string, unknown> = OWN_CLAIMS,
  ) => {
    const api = await apiServer(t, (request, response) =>
      (request.token === 'gatecar-check' ? rejects : ownReview)(request, response),
    );
    return (await check({ ...withOwnToken(t, api.url, claims).settings, ...settings })).by['audience'];
  };
  t.match(await audience(rejects), { result: 'ok', text: /that is not for \["bindcar"\] is rejected$/ });
  t.match(await audience(accepts()), { result: 'ok', text: 'the API server confirms ["bindcar"]' });
  t.match(await audience(accepts({ audiences: [] })), {
    result: 'fail',
    text: 'the server does not support audiences: every token would be rejected, since one of ["bindcar"] is required',
    fix: /--token-audiences=/,
  });
  t.match(await audience(answers(429, {})), { result: 'fail', text: /\(429\)/ });
  t.match(await audience(rejects, { GATECAR_TOKEN_AUDIENCES: '' }), { result: 'ok', text: /^none is set: tokens/ });
  const { url } = await apiServer(t, rejects);
  t.match((await check({ GATECAR_KUBE_API_URL: url })).by['audience'], {
    result: 'ok',
    text: 'one of ["bindcar"] is required; not tested, because gatecar\'s credential is not a token',
  });
});

t.test('a clock skew to the API server is a warning', async t => {
  const { url } = await apiServer(t, rejects);
  const clock = async (nowMs: number) =>
    (await check({ GATECAR_KUBE_API_URL: url }, { wallClock: () => nowMs })).by['clock'];
  t.match(await clock(NOW - 600_000), {
    result: 'warn',
    text: /is 60[01] s behind the API server's/,
    fix: /^timedatectl/,
  });
  t.match(await clock(NOW + 60_000), { result: 'warn', text: /ahead of/ });
  const withoutDate = await startStandIn((request, response) => {
    response.sendDate = false;
    rejects(request, response);
  });
  t.teardown(() => withoutDate.close());
  t.match((await check({ GATECAR_KUBE_API_URL: withoutDate.url })).by['clock'], {
    result: 'ok',
    text: /^not compared/,
  });
});

t.test('allowlist entries that do not exist in the cluster are warnings', async t => {
  const api = await apiServer(t, rejects);
  const allowlists = async (settings: Record<string, string>) =>
    (await check({ GATECAR_KUBE_API_URL: api.url, ...settings })).findings.filter(
      finding => finding.check === 'allowlists',
    );
  const account = { GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:ci:builder' };
  api.documents['/api/v1/namespaces/ci'] = {};
  t.match(await allowlists({ GATECAR_ALLOWED_NAMESPACES: 'ci' }), [{ result: 'ok', text: 'all listed names exist' }]);
  t.match(await allowlists({ GATECAR_ALLOWED_NAMESPACES: 'ci,typo' }), [
    { result: 'warn', text: '["typo"] are listed but do not exist', fix: 'kubectl create namespace typo' },
  ]);
  t.match(await allowlists(account), [
    { result: 'warn', text: /"ci\/builder"/, fix: 'kubectl create serviceaccount builder --namespace ci' },
  ]);
  api.documents['/api/v1/namespaces/ci/serviceaccounts/builder'] = {};
  api.documents['/api/v1/namespaces/dns'] = {};
  t.match(await allowlists({ ...account, GATECAR_ALLOWED_NAMESPACES: 'dns' }), [
    { result: 'ok' },
    {
      result: 'warn',
      text: /^\["ci\/builder"\] never pass: both lists must/,
      fix: 'GATECAR_ALLOWED_NAMESPACES=dns,ci',
    },
  ]);
});

t.test('if reading namespaces is forbidden, the allowlist check is ok', async t => {
  const api = await apiServer(t, rejects);
  const server = createHttpServer((request, response) => {
    if (request.method === 'GET') return void response.writeHead(403).end();
    const relayed = fetch(api.url + request.url, {
      method: 'POST',
      body: request,
      duplex: 'half',
    } as RequestInit);
    relayed.then(async answer => response.writeHead(answer.status).end(await answer.text()));
  });
  const url = `http://${await listening(t, server)}`;
  const settings = { GATECAR_KUBE_API_URL: url, GATECAR_ALLOWED_NAMESPACES: 'ci' };
  t.match((await check(settings)).by['allowlists'], {
    result: 'ok',
    text: /^not checked, because gatecar may not read them/,
  });
});

t.test('an API server that stops answering after the review is not an allowlist failure', async t => {
  const api = await startStandIn((request, response) => {
    if (request.path === TOKEN_REVIEW_PATH) rejects(request, response);
    else hangs(request, response);
  });
  t.teardown(() => api.close());
  const document = new Proxy(
    {},
    {
      get: () => 'x'.repeat(2 ** 21),
      ownKeys: () => ['a'],
      getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true, value: 1 }),
    },
  );
  api.documents['/api/v1/namespaces/ci'] = document;
  const settings = { GATECAR_KUBE_API_URL: api.url, GATECAR_ALLOWED_NAMESPACES: 'ci', GATECAR_REVIEW_TIMEOUT: '200ms' };
  t.match((await check(settings)).by, {
    rbac: { result: 'ok' },
    allowlists: { result: 'ok', text: /^not checked, because gatecar may not read them/ },
  });
});

t.test('a listener address used by gatecar is ok, and one used by another process is a failure', async t => {
  const { url } = await apiServer(t, rejects);
  const api = { GATECAR_KUBE_API_URL: url };
  const grpc = `unix:${join(tempDir(t), 'grpc')}`;
  const gatecar = await startGatecar({ ...api, GATECAR_GRPC_LISTEN: grpc });
  t.teardown(() => gatecar.stop());
  const gatecarAddresses = { ...api, GATECAR_LISTEN: gatecar.auth.slice(7), GATECAR_OPS_LISTEN: gatecar.ops.slice(7) };
  const listeners = async (settings: Record<string, string>) =>
    (await check(settings)).findings
      .filter(finding => finding.check === 'listeners')
      .map(({ result, text }) => `${result} ${text}`);
  t.strictSame(await listeners({ ...gatecarAddresses, GATECAR_GRPC_LISTEN: grpc }), [
    `ok GATECAR_LISTEN: ${gatecarAddresses.GATECAR_LISTEN}: gatecar is there already`,
    `ok GATECAR_OPS_LISTEN: ${gatecarAddresses.GATECAR_OPS_LISTEN}: gatecar is there already`,
    `ok GATECAR_GRPC_LISTEN: ${grpc}: gatecar is there already`,
  ]);
  const httpServer = await listening(
    t,
    createHttpServer((_request, response) => response.end()),
  );
  const silent = await listening(
    t,
    createServer(socket => socket.destroy()),
  );
  t.strictSame(
    await listeners({ ...api, GATECAR_LISTEN: httpServer, GATECAR_OPS_LISTEN: silent, GATECAR_GRPC_LISTEN: grpc }),
    [
      `fail GATECAR_LISTEN: cannot listen on ${httpServer}: EADDRINUSE: another process listens there`,
      `fail GATECAR_OPS_LISTEN: cannot listen on ${silent}: EADDRINUSE: another process listens there`,
      `fail GATECAR_GRPC_LISTEN: cannot listen on ${grpc}: EADDRINUSE: another process listens there`,
    ],
  );
  t.match(await listeners({ ...api, GATECAR_LISTEN: '192.0.2.1:9080' }), [
    'fail GATECAR_LISTEN: cannot listen on 192.0.2.1:9080: EADDRNOTAVAIL',
  ]);
});

t.test('a running gatecar is recognised on a Unix socket and over TLS', async t => {
  const { url } = await apiServer(t, rejects);
  const directory = tempDir(t, { cert: pem('server.crt'), key: pem('server.key'), bad: 'secret' });
  const files = { GATECAR_TLS_CERT_FILE: join(directory, 'cert'), GATECAR_TLS_KEY_FILE: join(directory, 'key') };
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: url, ...files, GATECAR_LISTEN: `unix:${directory}/auth` });
  t.teardown(() => gatecar.stop());
  const of = async (settings: Record<string, string>, nowMs = NOW) => {
    const env = { GATECAR_KUBE_API_URL: url, ...files, GATECAR_LISTEN: `unix:${directory}/auth`, ...settings };
    return (await check(env, { wallClock: () => nowMs })).findings.filter(finding => finding.check === 'listeners');
  };
  t.match(await of({}), [{ text: /gatecar is there already$/ }, {}, { result: 'ok', text: /are valid until 2126-/ }]);
  t.match((await of({}, Date.UTC(2200, 0)))[2], { result: 'fail', text: /expired 2126-/, fix: /^openssl x509/ });
  const bad = (await of({ GATECAR_TLS_CERT_FILE: join(directory, 'bad') }))[2];
  t.match(bad, { result: 'fail', text: /^GATECAR_TLS_CERT_FILE must be a file that holds PEM certificates/ });
  t.notMatch(bad?.text, 'secret');
});

t.test('a listener without a host is probed on this machine', async t => {
  const { url } = await apiServer(t, rejects);
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: url, GATECAR_LISTEN: ':0' });
  t.teardown(() => gatecar.stop());
  const port = gatecar.auth.split(':').at(-1);
  const { findings } = await check({ GATECAR_KUBE_API_URL: url, GATECAR_LISTEN: `:${port}` });
  t.match(
    findings.find(({ text }) => text.startsWith('GATECAR_LISTEN')),
    { text: /gatecar is there already$/ },
  );
});

t.test('the memory finding reports how many connections and requests fit', async t => {
  const text = new RegExp(
    '^256 MiB, of which gatecar and a full cache \\(GATECAR_CACHE_MAX_ENTRIES=10000\\) take 131 MiB; ' +
      `room for ${fitting(http)} connections, \\d+ MiB of requests in transfer and \\d+ MiB of requests that wait for a review$`,
  );
  t.match(await memory({ GATECAR_MEMORY_LIMIT: '256Mi' }), { result: 'ok', text });
  t.match(await memory({}, { limitBytes: 256 * MIB, heapBytes: 1024 * MIB }), { text }, 'without the setting');
  const capacity = (settings: Record<string, string>) =>
    memory({ GATECAR_MEMORY_LIMIT: '256Mi', ...settings }).then(({ text }) => / room for (.*?),/.exec(text)?.[1]);
  const GRPC = { GATECAR_GRPC_LISTEN: '127.0.0.1:0' };
  t.equal(await capacity(GRPC), `${fitting(http + grpc)} connections on each listener`);
  t.equal(await capacity(TLS), `${fitting(http + tls)} connections`);
  t.equal(await capacity({ ...TLS, ...GRPC }), `${fitting(http + grpc + 2 * tls)} connections on each listener`);
  t.equal(await capacity({ GATECAR_MAX_CONNECTIONS: '300' }), '300 connections', 'limited by the setting');
});

t.test('connections, cache or a memory limit that do not fit are reported with a fix', async t => {
  t.match(await memory({ GATECAR_MEMORY_LIMIT: '256Mi', GATECAR_MAX_CONNECTIONS: '10000' }), {
    result: 'warn',
    text: `GATECAR_MAX_CONNECTIONS is 10000, but the memory limit of 256 MiB has room for ${fitting(http)} connections`,
    fix: new RegExp(`^gatecar serve --max-connections=${fitting(http)} `),
  });
  t.match(await memory({ GATECAR_MEMORY_LIMIT: '1Gi' }, { limitBytes: 256 * MIB, heapBytes: 200 * MIB }), {
    result: 'warn',
    text: 'GATECAR_MEMORY_LIMIT is 1024 MiB, but only 256 MiB are available here',
    fix: /^kubectl describe pod /,
  });
  t.match(await memory({ GATECAR_CACHE_MAX_ENTRIES: '100000' }, { limitBytes: 512 * MIB, heapBytes: 152 * MIB }), {
    result: 'warn',
    text: /^a full cache \(GATECAR_CACHE_MAX_ENTRIES=100000\) may take 183 MiB .* limited to 152 MiB$/,
    fix: /^NODE_OPTIONS=--max-old-space-size=183 /,
  });
  t.match(await memory({ GATECAR_MEMORY_LIMIT: '133Mi' }), {
    result: 'warn',
    text: /take 131 MiB; the memory limit of 133 MiB leaves less than gatecar needs for connections and requests$/,
    fix: /^kubectl describe pod {3}# set a memory limit above 137Mi, or a smaller GATECAR_CACHE_MAX_ENTRIES$/,
  });
  t.match(
    await memory({ GATECAR_MEMORY_LIMIT: '144Mi' }),
    { result: 'ok' },
    'the process and its budgets fit into the limit',
  );
  t.match(await memory({ GATECAR_MEMORY_LIMIT: '128Mi', GATECAR_CACHE_MAX_ENTRIES: '100000' }), {
    result: 'fail',
    text: /=100000\) take 263 MiB, which is more than the memory limit of 128 MiB$/,
    fix: /above 263Mi/,
  });
});

t.test('gatecar check fails if the memory limit has no room for the cache', async t => {
  const { code, by } = await check({ GATECAR_MODE: 'format-only', GATECAR_MEMORY_LIMIT: '64Mi' });
  t.match(by['memory'], { result: 'fail' });
  t.equal(code, 1);
});

t.test('an unexpected error is thrown and not reported as a finding', async t => {
  const message = 'unexpected';
  const broken = (name: string) =>
    Object.defineProperty({}, name, {
      enumerable: true,
      get: () => {
        throw new Error(message);
      },
    });
  await t.rejects(runCommand(checkCommand, { env: broken('GATECAR_MODE') }), { message });
  const runtimeEnvironment = broken('inCluster');
  await t.rejects(
    runCommand(context => checkCommand({ ...context, runtimeEnvironment } as Parameters<typeof checkCommand>[0])),
    { message },
  );
});

t.test('`gatecar check` has colours and symbols only on a terminal, and a last line with the result', async t => {
  const env = { ...FREE, GATECAR_MODE: 'format-only' };
  const shown = async (more: CommandOptions) => (await runCommand(checkCommand, { env, ...more })).out;
  const terminal = await shown({ isTerminal: true });
  t.match(terminal, /^\u001b\[33m!\u001b\[0m configuration {2}/);
  t.match(terminal, /^\u001b\[32m✓\u001b\[0m listeners /m);
  t.match(terminal, /\n\n\S+✓\S+ \S+32mgatecar works with these settings\S+ \(warnings: \d\)\n$/);
  t.notMatch(await shown({ isTerminal: true, env: { ...env, NO_COLOR: '1' } }), '\u001b');
  t.notMatch(await shown({}), /[\u001b✓✗]/);
  const failed = await shown({ env: FREE, isTerminal: true });
  t.match(failed, /✗\S+ credential .*\n +\u001b\[1mfix:\u001b\[0m /);
  t.match(failed, /gatecar does not work here: 1 failed\S+\n$/);
  t.notMatch(await shown({ args: ['--output=json'], isTerminal: true }), /[\u001b✓✗]/);
  const narrow = await shown({ isTerminal: true, width: 80, env: { ...env, NO_COLOR: '1' } });
  t.match(narrow, /^✓ memory {9}\d+ MiB, .*\n {17}\S/m, 'a long text is broken at a space, below its beginning');
  for (const line of narrow.split('\n')) t.ok(line.length <= 80, line);
});
