import t, { type Test } from 'tap';
import { UsageError } from '../../../src/cli/command.ts';
import { type Explained, explainCommand } from '../../../src/cli/explain/explain.ts';
import { revealToken } from '../../../src/credential/token.ts';
import { startFakeApiServer } from '../../../src/dev/fake-api-server.ts';
import { type TokenRequest, tokenIssuer } from '../../../src/dev/token-issuer.ts';
import { type CommandOptions, runCommand } from '../../fixtures/command.ts';
import { leaked } from '../../fixtures/find-token.ts';
import { startWithFakeApi } from '../../fixtures/gatecar.ts';
import { everyOutage } from '../../fixtures/outages.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { accepts, answers, reviews, type StandIn, startStandIn } from '../../fixtures/stand-in-api-server.ts';
import { tempDir } from '../../fixtures/temp-dir.ts';
import { unsignedJwt } from '../../fixtures/unsigned-jwt.ts';

async function startServer(t: Test, settings: Record<string, string> = {}) {
  const gatecar = await startWithFakeApi(settings);
  t.teardown(() => gatecar.stop());
  return { ...gatecar, env: { GATECAR_KUBE_API_URL: gatecar.apiServer.url, ...settings } };
}

async function standIn(t: Test, behaviour: StandIn['behaviour']) {
  const api = await startStandIn(behaviour);
  t.teardown(() => api.close());
  return api;
}

/** Runs the command. @returns the explanation, its steps by name, and the exit code. */
async function explain(runtimeEnvironment: CommandOptions) {
  const run = await runCommand(explainCommand, {
    ...runtimeEnvironment,
    args: [...(runtimeEnvironment.args ?? []), '--output=json'],
  });
  const explained = JSON.parse(run.out) as Explained;
  const steps = Object.fromEntries(explained.steps.map(({ step, ...outcome }) => [step, outcome]));
  return { ...explained, steps, code: run.code };
}

const ISSUER = 'https://kubernetes.default.svc';
const NOW = Date.UTC(2025, 5, 1, 12);

t.test('a valid token is explained by its claims, each step, the decision and the upstream headers', async t => {
  const { env, token } = await startServer(t, { GATECAR_ALLOWED_NAMESPACES: 'default' });
  const input = `${token({ pod: 'web-0' })}\n`;
  const { code, out } = await runCommand(explainCommand, { env, input });
  t.equal(code, 0);
  t.match(out, /^decision: allow \(HTTP 200\)\n/, 'the decision is the first line');
  for (const line of [
    /^unverified claims:$/m,
    /^ {2}"sub": "system:serviceaccount:default:my-app",$/m,
    /^credential {2}passes: a bearer token of \d+ characters, a JWT$/m,
    /^signature {3}passes: one of the cluster's keys made it$/m,
    /^review {6}passes: authenticated as "system:serviceaccount:default:my-app" for \["bindcar"\]$/m,
    /^policy {6}passes: GATECAR_ALLOWED_NAMESPACES is \["default"\]$/m,
    /^clock {7}passes: no more than 30 s apart$/m,
    /^headers for the upstream:$/m,
    /^ {2}X-Auth-Request-Pod +web-0$/m,
    /^ {2}removed from the request: X-Auth-Request-Node, X-Auth-Request-Node-Uid, X-Auth-Request-Truncated$/m,
  ]) {
    t.match(out, line);
  }
  t.equal(leaked(out, [input.trim()]), undefined);
});

t.test('the explained decision equals the server’s response, for every token and mode', async t => {
  for (const settings of [
    {},
    { GATECAR_ALLOWED_NAMESPACES: 'ci', GATECAR_POLICY_DENIED_STATUS: '403' },
    { GATECAR_JWT_PRECHECK: 'claims', GATECAR_OPAQUE_TOKENS: 'reject', GATECAR_ERROR_DETAIL: 'generic' },
    { GATECAR_JWT_PRECHECK: 'off', GATECAR_IDENTITY_HEADER_PREFIX: 'X-Bind-' },
    { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:0' },
  ]) {
    const { env, auth, token } = await startServer(t, settings);
    const valid = token();
    // biome-ignore format: a list of tokens
    const tokens = [
      valid, `${valid.slice(0, -4)}AAAA`, token({ audiences: ['other'] }), token({ namespace: 'ci' }),
      token({ expiresInSeconds: -3600 }), token({ notBeforeSeconds: 3600 }), 'opaque', 'a'.repeat(16_385),
      'two words', 'invalid"token', 'Basic dXNlcjpwYXNz', revealToken(unsignedJwt({ iss: 'unknown' })),
    ];
    for (const text of tokens) {
      const header = text.startsWith('Basic ') ? text : `Bearer ${text}`;
      const reply = await sendRequest(auth, { headers: { Authorization: header } });
      const { decision, headers, code } = await explain({ env, input: header });
      const title = `${JSON.stringify(settings)} ${tokens.indexOf(text)}`;
      t.equal(decision.status, reply.status, title);
      t.equal(code, reply.status === 200 ? 0 : 1, title);
      for (const [name, value] of Object.entries(headers)) t.equal(reply.headers[name.toLowerCase()], value, title);
      if (reply.status !== 200) t.equal(JSON.parse(reply.body).error, decision.text, title);
      else t.equal(headers['X-Auth-Request-User'] ?? '', reply.headers['x-auth-request-user'] ?? '', title);
    }
  }
});

t.test('each failed local check is reported with a fix, and no review is sent', async t => {
  const issuer = tokenIssuer();
  const apiServer = await startFakeApiServer({ issuer });
  t.teardown(() => apiServer.close());
  const env = { GATECAR_KUBE_API_URL: apiServer.url };
  const token = (more: Partial<TokenRequest> = {}) =>
    issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'], ...more });
  const wrong = await explain({ env, input: token({ audiences: ['elsewhere'], expiresInSeconds: -3600 }) });
  t.match(wrong, {
    code: 1,
    decision: { kind: 'deny', reason: 'token_rejected', status: 401 },
    steps: {
      audience: {
        result: 'rejects',
        text: 'for ["elsewhere"]; GATECAR_TOKEN_AUDIENCES is ["bindcar"]',
        fix: 'kubectl create token my-app --namespace default --audience bindcar',
      },
      expiry: {
        result: 'rejects',
        text: /^expired \S+Z; it is \S+Z here$/,
        fix: 'kubectl create token my-app --namespace default --audience bindcar   # or mount one that is rotated',
      },
      signature: { result: 'passes' },
      review: { result: 'skipped', text: 'not sent: rejected before' },
      policy: { result: 'skipped' },
    },
  });
  const early = await explain({ env, input: token({ notBeforeSeconds: 3600 }) });
  t.match(early.steps['not before'], { result: 'rejects', text: /^valid from /, fix: /^gatecar check/ });
  const wrongSignature = await explain({ env, input: `${token().slice(0, -4)}AAAA` });
  t.match(wrongSignature.steps['signature'], { result: 'rejects', text: /which did not make it$/ });
  t.equal(apiServer.reviews, 0);
});

t.test('the command for a new token has placeholders unless the claims name a ServiceAccount', async t => {
  const api = await standIn(t, reviews({ error: 'invalid bearer token' }));
  api.documents['/.well-known/openid-configuration'] = { issuer: ISSUER };
  api.documents['/openid/v1/jwks'] = { keys: [] };
  const fix = async (claims: Record<string, unknown>, audiences: string) => {
    const env = { GATECAR_KUBE_API_URL: api.url, GATECAR_TOKEN_AUDIENCES: audiences };
    const input = revealToken(unsignedJwt({ iss: ISSUER, aud: ['bindcar'], exp: 1, ...claims }));
    return (await explain({ env, input })).steps['expiry']?.fix;
  };
  const rotated = '   # or mount one that is rotated';
  t.equal(await fix({}, ''), `kubectl create token NAME --namespace NAMESPACE${rotated}`);
  const forged = { sub: 'system:serviceaccount:ci:b; reboot' };
  t.equal(await fix(forged, 'bindcar'), `kubectl create token NAME --namespace NAMESPACE --audience bindcar${rotated}`);
  t.equal(await fix({ sub: 'system:serviceaccount:ci:b' }, ''), `kubectl create token b --namespace ci${rotated}`);
});

t.test('a token that is too long, or opaque if that is rejected, fails at the prescreen step', async t => {
  const { env } = await startServer(t, { GATECAR_OPAQUE_TOKENS: 'reject' });
  const long = await explain({ env, input: 'a'.repeat(16_385) });
  t.match(long.steps, {
    prescreen: { result: 'rejects', text: /^longer than 16384/ },
    'local checks': { text: 'rejected before' },
  });
  const opaque = await explain({ env, input: 'opaque' });
  t.match(opaque.steps, {
    prescreen: { result: 'rejects', text: 'not a JWT, and GATECAR_OPAQUE_TOKENS is reject' },
    credential: { text: /opaque/ },
  });
  t.notOk('unverified' in opaque, 'an opaque token has no claims');
});

t.test('local checks that cannot decide are skipped with a reason', async t => {
  const api = await standIn(t, reviews({ error: 'invalid bearer token' }));
  const env = { GATECAR_KUBE_API_URL: api.url };
  const input = revealToken(unsignedJwt({ iss: ISSUER, aud: 7 }));
  const skipped = async (settings: Record<string, string>, token = input) =>
    (await explain({ env: { ...env, ...settings }, input: token })).steps;
  t.match(await skipped({}), {
    'local checks': {
      result: 'skipped',
      text: /could not be had: "GET \/\.well-known\/openid-configuration: HTTP 404"$/,
    },
    review: { result: 'rejects', text: 'not authenticated: invalid bearer token' },
  });
  t.match(await skipped({ GATECAR_JWT_PRECHECK: 'off' }), { 'local checks': { text: 'GATECAR_JWT_PRECHECK is off' } });
  t.match(await skipped({}, 'opaque'), { 'local checks': { text: /^an opaque token/ } });
  api.documents['/.well-known/openid-configuration'] = { issuer: ISSUER };
  api.documents['/openid/v1/jwks'] = { keys: [] };
  t.match(await skipped({}, revealToken(unsignedJwt({ iss: 'https://other' }))), {
    'local checks': {
      text: `the issuer "https://other" is not the cluster's own, "${ISSUER}": the API server decides`,
    },
  });
  t.match(await skipped({}), {
    audience: { result: 'skipped', text: /^it has no list of audiences/ },
    expiry: { result: 'passes', text: /never expires/ },
    'not before': { result: 'passes', text: 'it has no nbf' },
    signature: { result: 'skipped', text: /names no key that the cluster publishes/ },
  });
  const outOfRangeExpiry = revealToken(unsignedJwt({ iss: ISSUER, aud: ['bindcar'], exp: 1e300 }));
  t.match(await skipped({ GATECAR_JWT_PRECHECK: 'claims', GATECAR_TOKEN_AUDIENCES: '' }, outOfRangeExpiry), {
    audience: { result: 'skipped', text: /^GATECAR_TOKEN_AUDIENCES is empty/ },
    expiry: { result: 'passes', text: /^expires at a time that is out of range/ },
    signature: { result: 'skipped', text: 'GATECAR_JWT_PRECHECK is claims' },
  });
});

t.test('a review without a matching audience or a user is explained', async t => {
  const api = await standIn(t, accepts({ audiences: [] }));
  const env = { GATECAR_KUBE_API_URL: api.url };
  t.match(await explain({ env, input: 'opaque' }), {
    steps: { review: { result: 'rejects', text: 'authenticated, but not for ["bindcar"]: it knows no audiences' } },
    decision: { reason: 'audience_mismatch' },
  });
  api.behaviour = accepts({ user: {} });
  t.match((await explain({ env, input: 'opaque' })).steps['review'], {
    text: 'authenticated, but it does not say who it is',
  });
});

t.test('a denial by policy is explained with the setting that would allow the account', async t => {
  const api = await standIn(t, accepts());
  const env = { GATECAR_KUBE_API_URL: api.url };
  const policy = async (settings: Record<string, string>) =>
    (await explain({ env: { ...env, ...settings }, input: 'opaque' })).steps['policy'];
  t.match(await policy({ GATECAR_ALLOWED_NAMESPACES: 'ci' }), {
    result: 'rejects',
    fix: 'GATECAR_ALLOWED_NAMESPACES=ci,default',
    text: '"system:serviceaccount:default:my-app" is not allowed: GATECAR_ALLOWED_NAMESPACES is ["ci"]',
  });
  t.match(await policy({ GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:ci:b' }), {
    fix: 'GATECAR_ALLOWED_SERVICE_ACCOUNTS=system:serviceaccount:ci:b,system:serviceaccount:default:my-app',
  });
  t.match(await policy({}), { result: 'passes', text: 'no allowlist is set: everybody passes' });
  api.behaviour = accepts({ user: { username: 'jane' } });
  t.match(await policy({ GATECAR_ALLOWED_NAMESPACES: 'ci' }), { fix: /no ServiceAccount$/ });
});

t.test('every unavailable API server exits with 3 and is explained without the token', async t => {
  for (const { name, behaviour, cause } of everyOutage) {
    const api = await standIn(t, behaviour);
    const timeout = { GATECAR_REVIEW_TIMEOUT: cause === 'timeout' ? '100ms' : '20s' };
    const input = revealToken(unsignedJwt({ iss: ISSUER, jti: 'x'.repeat(40) }));
    const env = { GATECAR_KUBE_API_URL: api.url, ...timeout };
    const { code, out } = await runCommand(explainCommand, { env, input });
    t.equal(code, 3, name);
    t.match(out, /^review {8}fault: TokenReview failed: [a-z]/m, name);
    t.match(out, /^ +fix: (kubectl|gatecar) /m, name);
    t.match(out, /^decision: unavailable, authority_unavailable \(HTTP 503\)/, name);
    t.equal(leaked(out, [input]), undefined, name);
  }
});

t.test('a clock skew is explained as a warning', async t => {
  const api = await standIn(t, answers(403, {}, { date: new Date(NOW).toUTCString() }));
  const env = { GATECAR_KUBE_API_URL: api.url };
  const clock = async (nowMs: number, settings: Record<string, string> = {}) =>
    (await explain({ env: { ...env, ...settings }, input: 'opaque', wallClock: () => nowMs })).steps['clock'];
  t.match(await clock(NOW + 600_500), { result: 'warning', text: /is 600 s ahead of/, fix: /^timedatectl/ });
  t.match(await clock(NOW - 40_000), { result: 'warning', text: /is 41 s behind/ });
  api.behaviour = (_request, response) => {
    response.sendDate = false;
    response.writeHead(403).end();
  };
  t.equal(await clock(NOW, { GATECAR_JWT_PRECHECK: 'off' }), undefined, 'without a Date header no clocks are compared');
});

t.test('times that only a skewed clock rejects are left to the API server', async t => {
  const { env, token } = await startServer(t);
  for (const [input, aheadMs, step] of [
    [token({ expiresInSeconds: 300 }), 600_000, 'expiry'],
    [token(), -600_000, 'not before'],
  ] as const) {
    const { code, steps } = await explain({ env, input, wallClock: () => Date.now() + aheadMs });
    t.equal(code, 0, step);
    t.match(steps[step], { result: 'skipped', text: /; .* the API server decides$/ });
    t.match(steps['review'], { result: 'passes' });
  }
});

t.test('an invalid credential is explained without a connection to the API server', async t => {
  const api = await standIn(t, accepts());
  const env = { GATECAR_KUBE_API_URL: api.url };
  const cases: [input: string, reason: string, text: RegExp][] = [
    ['two words', 'credentials_malformed', /another scheme than Bearer/],
    ['Authorization: Basic dXNlcg==', 'credentials_malformed', /another scheme than Bearer/],
    ['invalid"token', 'credentials_malformed', /holds characters, or line ends/],
    ['two\nlines', 'credentials_malformed', /holds characters, or line ends/],
    ['Bearer', 'token_empty', /the token is empty/],
    ['Authorization:', 'credentials_missing', /there is none/],
  ];
  for (const [input, reason, text] of cases) {
    t.match(await explain({ env, input }), {
      code: 1,
      decision: { kind: 'deny', reason, status: 401 },
      removed: [],
      steps: { credential: { result: 'rejects', text } },
    });
  }
  t.equal(api.connections, 0);
});

t.test('format-only mode is explained as a warning', async t => {
  const env = { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:9080' };
  t.match(await explain({ env, input: 'anything' }), {
    code: 0,
    steps: { mode: { result: 'warning', text: /nothing is verified/ } },
    headers: {},
    removed: ['X-Auth-Request-User'],
  });
});

t.test('a token or a whole header is read from a file or standard input', async t => {
  const { env, token } = await startServer(t);
  const directory = tempDir(t, { token: `authorization: bearer ${token()}\n` });
  for (const args of [[`${directory}/token`], ['--file', `${directory}/token`], [`--file=${directory}/token`]]) {
    t.equal((await runCommand(explainCommand, { env, args })).code, 0, args.join(' '));
  }
  t.equal((await runCommand(explainCommand, { env, args: ['-'], input: token() })).code, 0);
});

t.test('a token as an argument is a usage error and is not repeated', async t => {
  const secret = revealToken(unsignedJwt({ iss: ISSUER, jti: 'x'.repeat(40) }));
  for (const args of [[secret], ['--file', secret], [`--file=${secret}`], ['-', secret], [secret, secret]]) {
    const error = (await t.rejects(runCommand(explainCommand, { args }), { name: 'UsageError' })) as UsageError;
    t.match(error.message, /a token is never an argument, .*pipe it in/);
    t.equal(leaked(error.message, [secret]), undefined);
  }
  for (const args of [['--token', secret], [`--token=${secret}`], [`--${secret}`]]) {
    const error = (await t.rejects(runCommand(explainCommand, { args }), { name: 'ConfigError' })) as Error;
    t.equal(leaked(error.message, [secret]), undefined);
  }
});

t.test('an empty input and an input of more than 1 MiB are usage errors', async t => {
  await t.rejects(
    runCommand(explainCommand, { input: ' \n' }),
    new UsageError('nothing was read: a token is expected on standard input, or in a file'),
  );
  await t.rejects(
    runCommand(explainCommand, { input: 'a'.repeat(1024 * 1024 + 1) }),
    new UsageError('what was read is far too long for a token'),
  );
});

t.test('invalid settings of `gatecar explain` are a ConfigError', async t => {
  await t.rejects(runCommand(explainCommand, { args: ['--mode=open'], input: 'x' }), { name: 'ConfigError' });
});

t.test('the output of `gatecar explain` is coloured only on a terminal, and never as JSON', async t => {
  const env = { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:9080' };
  const plain = await runCommand(explainCommand, { env, input: 'x' });
  const coloured = await runCommand(explainCommand, { env, input: 'x', isTerminal: true });
  t.notMatch(plain.out, '\u001b');
  t.match(coloured.out, '\u001b[32m✓\u001b[0m decision: \u001b[32mallow\u001b[0m (HTTP 200)\n');
  t.match(coloured.out, '\n\u001b[33m!\u001b[0m mode        \u001b[33mwarning\u001b[0m: ');
  t.notMatch(plain.out, /[✓✗]/);
  const narrow = await runCommand(explainCommand, { env, input: 'x', isTerminal: true, width: 60 });
  t.match(narrow.out, /warning\u001b\[0m: GATECAR_MODE=format-only: .*\n {14}\S/, 'a long text is broken at a space');
  const json = await runCommand(explainCommand, { env, input: 'x', args: ['--output', 'json'], isTerminal: true });
  t.notMatch(json.out, '\u001b');
});
