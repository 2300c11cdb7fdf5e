import t, { type Test } from 'tap';
import { readChallenge } from '../fixtures/challenge.ts';
import { startGatecar, startWithFakeApi } from '../fixtures/gatecar.ts';
import { type Reply, sendRaw, sendRequest } from '../fixtures/send-request.ts';
import { accepts, answers, type Behaviour, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';

/** RFC 6750 §3.1. */
const ERRORS = ['invalid_request', 'invalid_token', 'insufficient_scope'];

async function start(t: Test, settings: Record<string, string> = {}, behaviour: Behaviour = accepts()) {
  const standIn = await startStandIn(behaviour);
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, ...settings });
  t.teardown(() => gatecar.stop());
  return { standIn, gatecar };
}

/** Asserts that the response has one gatecar challenge. Returns its error code, if any. */
function errorOf(t: Test, { rawHeaders }: Reply): string | undefined {
  const values = rawHeaders.filter((_, at) => rawHeaders[at - 1]?.toLowerCase() === 'www-authenticate');
  t.equal(values.length, 1, 'exactly one WWW-Authenticate');
  const { scheme, parameters } = readChallenge(values[0] ?? '');
  t.equal(scheme, 'Bearer');
  t.equal(parameters.get('realm'), 'gatecar');
  const error = parameters.get('error');
  t.ok(error === undefined || ERRORS.includes(error), `${error} is defined in RFC 6750`);
  return error;
}

const DENIALS: readonly {
  readonly reason: string;
  readonly authorization?: string;
  readonly behaviour?: Behaviour;
  readonly error: string | undefined;
}[] = [
  { reason: 'credentials_missing', error: undefined },
  { reason: 'credentials_missing', authorization: '', error: undefined },
  { reason: 'credentials_malformed', authorization: 'Bearer a b', error: 'invalid_request' },
  { reason: 'credentials_malformed', authorization: 'Basic eDp5', error: undefined },
  { reason: 'token_empty', authorization: 'Bearer', error: 'invalid_request' },
  {
    reason: 'token_rejected',
    authorization: 'Bearer t1',
    behaviour: reviews({ error: 'a "quoted" \\ text, error="x"\r\nSet-Cookie: a=b' }),
    error: 'invalid_token',
  },
  { reason: 'token_rejected', authorization: `Bearer ${'x'.repeat(20_000)}`, error: 'invalid_token' },
  {
    reason: 'audience_mismatch',
    authorization: 'Bearer t2',
    behaviour: accepts({ audiences: [] }),
    error: 'invalid_token',
  },
  { reason: 'user_missing', authorization: 'Bearer t3', behaviour: accepts({ user: {} }), error: 'invalid_token' },
  {
    reason: 'namespace_denied',
    authorization: 'Bearer t4',
    behaviour: accepts({ user: { username: 'a "quoted" user, error="x"' } }),
    error: 'insufficient_scope',
  },
  {
    reason: 'service_account_denied',
    authorization: 'Bearer t5',
    behaviour: accepts({ user: { username: 'system:serviceaccount:default:other' } }),
    error: 'insufficient_scope',
  },
];

for (const policyStatus of [401, 403]) {
  for (const { reason, authorization, behaviour = accepts(), error } of DENIALS) {
    const credentialName = authorization === undefined ? 'no header' : `"${authorization.slice(0, 20)}"`;
    t.test(
      `${reason} (${credentialName}, ${policyStatus}): one challenge, ${error ?? 'without an error code'}`,
      async t => {
        const { standIn, gatecar } = await start(t, {
          GATECAR_ALLOWED_NAMESPACES: 'default',
          GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:default:my-app',
          GATECAR_POLICY_DENIED_STATUS: String(policyStatus),
        });
        standIn.behaviour = behaviour;
        const headers = authorization === undefined ? {} : { Authorization: authorization };
        for (const method of ['GET', 'HEAD', 'OPTIONS']) {
          const reply = await sendRequest(gatecar.auth, { method, headers });
          t.equal(reply.status, error === 'insufficient_scope' ? policyStatus : 401);
          t.equal(reply.headers['x-gatecar-reason'], reason);
          t.equal(reply.headers['cache-control'], 'no-store');
          t.equal(errorOf(t, reply), error);
          if (method !== 'HEAD') t.same(Object.keys(JSON.parse(reply.body)), ['error']);
        }
      },
    );
  }
}

t.test('with generic error details every rejected or denied credential gets the same response', async t => {
  const { standIn, gatecar } = await start(t, {
    GATECAR_ERROR_DETAIL: 'generic',
    GATECAR_ALLOWED_NAMESPACES: 'default',
    GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:default:my-app',
  });
  const responses = new Set<string>();
  for (const { authorization = '', behaviour = accepts(), error } of DENIALS) {
    if (error !== 'invalid_token' && error !== 'insufficient_scope') continue;
    standIn.behaviour = behaviour;
    const reply = await sendRequest(gatecar.auth, { headers: { Authorization: authorization } });
    t.equal(errorOf(t, reply), 'invalid_token');
    const { date: _, ...headers } = reply.headers;
    responses.add(JSON.stringify([reply.status, headers, reply.body]));
  }
  t.equal(responses.size, 1);
});

t.test('an outage answered 401 or 403 blames no credential, and one answered 503 has no challenge', async t => {
  for (const status of [401, 403, 503]) {
    const { gatecar } = await start(t, { GATECAR_UNAVAILABLE_STATUS: String(status) }, answers(500, 'boom'));
    const reply = await sendRequest(gatecar.auth, { token: 'the-token' });
    t.equal(reply.status, status);
    if (status === 503) t.equal(reply.headers['www-authenticate'], undefined);
    else t.equal(errorOf(t, reply), undefined);
  }
});

t.test('the scheme is read in any case', async t => {
  const { standIn, gatecar } = await start(t);
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR']) {
    t.equal(
      (await sendRequest(gatecar.auth, { headers: { Authorization: `${scheme} the-token` } })).status,
      200,
      scheme,
    );
  }
  t.equal(standIn.requests.length, 1);
});

/** Values that contain a valid token but are malformed. */
const MALFORMED: Readonly<Record<string, (token: string) => string | string[]>> = {
  'no scheme': token => token,
  'another scheme': token => `Basic ${token}`,
  'a longer scheme': token => `BearerX ${token}`,
  'no space': token => `Bearer${token}`,
  'a leading space': token => `Bearer  ${token}`,
  'a tab': token => `Bearer\t${token}`,
  'a leading tab': token => `Bearer \t${token}`,
  'trailing text': token => `Bearer ${token} junk`,
  'a trailing comma': token => `Bearer ${token},`,
  'a trailing semicolon': token => `Bearer ${token};`,
  quotes: token => `Bearer "${token}"`,
  'a parameter': token => `Bearer token="${token}"`,
  'percent-encoding': token => `Bearer ${token}%20`,
  'comma-merged, the same': token => `Bearer ${token}, Bearer ${token}`,
  'comma-merged, another first': token => `Bearer x, Bearer ${token}`,
  'comma-merged, another scheme': token => `Basic eDp5, Bearer ${token}`,
  'two headers, the same': token => [`Bearer ${token}`, `Bearer ${token}`],
  'two headers, one empty': token => [`Bearer ${token}`, ''],
  'two headers, the empty one first': token => ['', `Bearer ${token}`],
  'non-ASCII at the end': token => `Bearer ${token}\xe9`,
  'non-ASCII inside': token => `Bearer ${token.slice(0, 9)}\xff${token.slice(9)}`,
  'a non-breaking space': token => `Bearer\xa0${token}`,
  'padding inside': token => `Bearer ${token}==x`,
  'only padding': () => 'Bearer ==',
};

/** No attempt at a bearer token: RFC 6750 requires a challenge without an error code. */
const OTHER_SCHEMES = ['no scheme', 'another scheme', 'a longer scheme', 'no space', 'comma-merged, another scheme'];

t.test('a malformed credential is rejected without a review', async t => {
  const gatecar = await startWithFakeApi();
  t.teardown(() => gatecar.stop());
  t.equal((await sendRequest(gatecar.auth, { token: gatecar.token() })).status, 200, 'the token alone is valid');
  const before = gatecar.apiServer.reviews;
  for (const [name, mutate] of Object.entries(MALFORMED)) {
    const reply = await sendRequest(gatecar.auth, { headers: { Authorization: mutate(gatecar.token()) } });
    t.equal(reply.status, 401, name);
    t.equal(reply.headers['x-gatecar-reason'], 'credentials_malformed', name);
    t.equal(errorOf(t, reply), OTHER_SCHEMES.includes(name) ? undefined : 'invalid_request', name);
  }
  t.equal(gatecar.apiServer.reviews, before);
});

t.test('malformed or oversized HTTP is rejected by the parser without a review', async t => {
  const gatecar = await startWithFakeApi();
  t.teardown(() => gatecar.stop());
  while (gatecar.apiServer.reviews === 0) await sendRequest(gatecar.ops, { path: '/readyz' });
  const before = gatecar.apiServer.reviews;
  const token = gatecar.token();
  const head = 'GET /auth HTTP/1.1\r\nHost: x\r\n';
  for (const [name, status, bytes] of [
    ['a NUL', 400, `${head}Authorization: Bearer ${token}\0\r\n\r\n`],
    ['an escape', 400, `${head}Authorization: Bearer \x1b${token}\r\n\r\n`],
    ['a DEL', 400, `${head}Authorization: Bearer ${token}\x7f\r\n\r\n`],
    ['a lone CR', 400, `${head}Authorization: Bearer ${token}\rjunk\r\n\r\n`],
    ['100 KB', 431, `${head}Authorization: Bearer ${token.repeat(Math.ceil(100_000 / token.length))}\r\n\r\n`],
    ['a folded line', 400, `${head}Authorization: Bearer\r\n ${token}\r\n\r\n`],
    ['a space before the colon', 400, `${head}Authorization : Bearer ${token}\r\n\r\n`],
  ] as const) {
    const received = await sendRaw(gatecar.auth, Buffer.from(bytes, 'latin1'), text => text.includes('\r\n\r\n'));
    t.match(received, new RegExp(`^HTTP/1\\.1 ${status} `), name);
  }
  t.equal(gatecar.apiServer.reviews, before);
});

t.test('an invalid token is answered 401 token_rejected, never 200 or 5xx', async t => {
  const gatecar = await startWithFakeApi();
  t.teardown(() => gatecar.stop());
  const otherIssuer = await startWithFakeApi();
  t.teardown(() => otherIssuer.stop());
  const [header = '', payload = '', signature = ''] = gatecar.token().split('.');
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const { exp: _, ...claims } = JSON.parse(Buffer.from(payload, 'base64url').toString());
  const deleted = gatecar.token({ serviceAccount: 'gone' });
  gatecar.apiServer.deleteServiceAccount('default', 'gone');
  for (const [name, token] of Object.entries({
    expired: gatecar.token({ expiresInSeconds: -3600, notBeforeSeconds: -7200 }),
    'not yet valid': gatecar.token({ notBeforeSeconds: 3600, expiresInSeconds: 7200 }),
    'for another audience': gatecar.token({ audiences: ['other'] }),
    'for no audience': gatecar.token({ audiences: [] }),
    'signed by another issuer': otherIssuer.token(),
    'alg: none': `${encode({ alg: 'none' })}.${payload}.`,
    'alg: none, signed': `${encode({ alg: 'none' })}.${payload}.${signature}`,
    'alg: HS256': `${encode({ alg: 'HS256' })}.${payload}.${signature}`,
    'without a signature': `${header}.${payload}.`,
    'without its last part': `${header}.${payload}`,
    'with another payload': `${header}.${encode(claims)}.${signature}`,
    'with a fourth part': `${header}.${payload}.${signature}.${signature}`,
    'a deleted ServiceAccount': deleted,
    opaque: 'opaque',
    'only dots': '...',
    'segments that are not JSON objects': `${encode('x')}.${encode(null)}.`,
    'at the length limit': `${header}.${'x'.repeat(16_384 - header.length - 2)}.`,
    'too long': `${header}.${'x'.repeat(30_000)}.`,
  })) {
    const reply = await sendRequest(gatecar.auth, { token });
    t.equal(reply.status, 401, name);
    t.equal(reply.headers['x-gatecar-reason'], 'token_rejected', name);
    t.equal(errorOf(t, reply), 'invalid_token', name);
  }
});
