import t from 'tap';
import { askRaw } from '../fixtures/ask.ts';
import { envoyClient } from '../fixtures/envoy-client.ts';
import { everywhere, leaked, newJwt, newOpaque, scene } from '../fixtures/find-token.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { everyOutage } from '../fixtures/outages.ts';
import { seeded } from '../fixtures/seeded-random.ts';
import { accepts, answers, type Behaviour, type ReviewRequest, reviews } from '../fixtures/stand-in-api-server.ts';
import { type Encoding, HIDDEN, leakedInAnyForm, RECOGNISABLE, SPOILED } from '../fixtures/token-encodings.ts';

/** How often each encoding is tried, with another token and credential. */
const ROUNDS = LONG_FUZZ ? 3 : 1;

/** An API server that repeats all that it was sent wherever a reader might look. */
const echo = (status: number, type: string) => (request: ReviewRequest) =>
  answers(status, `<pre>${request.body} ${JSON.stringify(request.headers)}</pre>`, {
    'content-type': type,
    'retry-after': request.token ?? '',
    location: `/${request.token}`,
    'www-authenticate': `Bearer ${request.token}`,
  });

/** A user one part of which is the token, or has it inside. */
function echoedUser(token: string, part: string): Record<string, unknown> {
  const user = { username: 'system:serviceaccount:default:my-app', uid: 'u', groups: ['g'], extra: {} };
  return {
    username: { ...user, username: `x:${token}` },
    uid: { ...user, uid: token },
    groups: { ...user, groups: ['g', `g:${token}:g`] },
    extra: {
      ...user,
      extra: {
        'authentication.kubernetes.io/credential-id': [`JTI=${token}`],
        'authentication.kubernetes.io/pod-name': [token],
        'example.org/token': [token],
      },
    },
    'unread extra': { ...user, extra: { 'example.org/token': [token], [token]: [] } },
  }[part] as Record<string, unknown>;
}

for (const [kind, newToken] of Object.entries({ 'a JWT': newJwt, 'an opaque token': newOpaque })) {
  t.test(`with ${kind}, an allow and every denial give nothing away`, async t => {
    const stage = await scene(t, { GATECAR_ALLOWED_NAMESPACES: 'default' });
    const cases: [reason: string, behaviour: Behaviour][] = [
      ['token_rejected', reviews({ error: '[invalid bearer token, service account token has expired]' })],
      ['audience_mismatch', accepts({ audiences: ['other'] })],
      ['user_missing', accepts({ user: {} })],
      ['namespace_denied', accepts({ user: { username: 'system:serviceaccount:blocked:my-app' } })],
    ];
    for (const [reason, behaviour] of [['', accepts()] as const, ...cases]) {
      const token = newToken();
      stage.secrets.push(token);
      stage.standIn.behaviour = behaviour;
      const question = { token, path: `/auth/${token}?${token}`, headers: everywhere(token) };
      t.equal(await stage.ask({ ...question, method: 'POST', body: token }), reason === '' ? 200 : 401);
      t.equal(await stage.ask(question), reason === '' ? 200 : 401);
    }
    const text = await stage.given();
    t.equal(leaked(text, stage.secrets), undefined);
    for (const [reason] of cases) t.match(text, `"reason":"${reason}"`, `${reason} was logged`);
    t.match(text, '"msg":"allowed"', 'and allows were');
    t.match(text, '"uri":"/download/[token]/x"', 'and what the gateway said');
  });

  t.test(`with ${kind}, no outage gives anything away`, async t => {
    for (const { name, behaviour, cause } of everyOutage) {
      await t.test(name, async t => {
        const stage = await scene(t, { GATECAR_REVIEW_TIMEOUT: cause === 'timeout' ? '100ms' : '20s' });
        const token = newToken();
        stage.secrets.push(token);
        stage.standIn.behaviour = behaviour;
        t.equal(await stage.ask({ token, headers: everywhere(token) }), 503);
        t.equal(leaked(await stage.given(), stage.secrets), undefined);
      });
    }
  });

  t.test(`with ${kind}, an API server that repeats all it was sent is not repeated`, async t => {
    for (const status of [200, 201, 302, 400, 401, 403, 429, 500]) {
      const stage = await scene(t);
      for (const type of ['application/json', 'text/html']) {
        const token = newToken();
        stage.secrets.push(token);
        stage.standIn.behaviour = (request, response) => echo(status, type)(request)(request, response);
        t.equal(await stage.ask({ token }), 503, `${status} ${type}`);
      }
      t.equal(leaked(await stage.given(), stage.secrets), undefined, `${status}`);
    }
  });

  for (const [policy, settings] of Object.entries({
    everybody: {},
    'nobody there is': { GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:default:other' },
  })) {
    t.test(`with ${kind}, a result that repeats the credentials is not repeated where ${policy} passes`, async t => {
      const stage = await scene(t, settings);
      const newSecret = () => {
        const token = newToken();
        stage.secrets.push(token);
        return token;
      };
      stage.standIn.behaviour = (request, response) => {
        const error = `cannot verify ${request.token}, asked by ${request.headers.authorization}`;
        reviews({ error })(request, response);
      };
      t.equal(await stage.ask({ token: newSecret() }), 401, 'status.error');
      for (const part of ['username', 'uid', 'groups', 'extra']) {
        const token = newSecret();
        stage.standIn.behaviour = accepts({ user: echoedUser(token, part) });
        t.equal(await stage.ask({ token }), 503, part);
      }
      const token = newSecret();
      stage.standIn.behaviour = accepts({ user: echoedUser(token, 'unread extra') });
      t.equal(await stage.ask({ token }), policy === 'everybody' ? 200 : 401, 'what is not read does no harm');
      t.equal(leaked(await stage.given(), stage.secrets), undefined);
    });
  }
}

/** Values that hold a token and are no credential. */
const MALFORMED: readonly ((token: string) => string)[] = [
  token => token,
  token => `Basic ${token}`,
  token => `DPoP ${token}`,
  token => `Bearer  ${token}`,
  token => `Bearer\t${token}`,
  token => `Bearer${token}`,
  token => `Bearer "${token}"`,
  token => `Bearer ${token} junk`,
  token => `Bearer ${token}, Bearer ${token}`,
  token => `Bearer realm="${token}"`,
  token => `Bearer ${token}\u00e9`,
  token => `Bearer ${token.repeat(20)}`,
];

t.test('a token that is no credential as it was sent is not repeated either', async t => {
  const stage = await scene(t);
  for (const spoil of MALFORMED) {
    const token = newJwt();
    stage.secrets.push(token);
    t.equal(await stage.ask({ headers: { ...everywhere(token), Authorization: spoil(token) } }), 401);
  }
  const token = newJwt();
  stage.secrets.push(token);
  t.equal(await stage.ask({ headers: { ...everywhere(token), Authorization: [`Bearer ${token}`, 'Bearer x'] } }), 401);
  t.equal(await stage.ask({ headers: everywhere(token) }), 401, 'nor without any credential');
  t.equal(stage.standIn.requests.length, 0);
  t.equal(leaked(await stage.given(), stage.secrets), undefined);
});

t.test('what is no HTTP is answered without a word of it', async t => {
  const stage = await scene(t);
  const token = newJwt();
  const spoiled = [
    `GET /auth HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\u0000\r\n\r\n`,
    `GET /auth HTTP/1.1\r\nHost: x\r\nAuth orization: Bearer ${token}\r\n\r\n`,
    `GET /auth HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token.repeat(100)}\r\n\r\n`,
    `GET /auth HTTP/1.1\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    `GET /${token} HTTP/9.9\r\nHost: x\r\n\r\n`,
    `Bearer ${token}\r\n\r\n`,
    `GET /${token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  ];
  let said = '';
  for (const bytes of spoiled) said += await askRaw(stage.auth, bytes);
  t.equal(said.match(/^HTTP\/1\.1 4(00|31|04) /gm)?.length, spoiled.length);
  t.equal(leaked(said + (await stage.given()), [...stage.secrets, token]), undefined);
});

/** Each value that gatecar may log, written with one encoding of the token; what HTTP does not allow is left out. */
function encoded(encode: Encoding, token: string, random: ReturnType<typeof seeded>): Record<string, string> {
  const value = () =>
    encode(token, random)
      .replace(/[^\x20-\x7e]/g, ' ')
      .trim();
  const pick = random.pick(['X-Original-URI', 'X-Original-URL', 'X-Forwarded-Uri', 'X-Envoy-Original-Path']);
  return {
    [pick]: random.pick([value(), `/x/${value()}/y`, `https://example.org/${value()}?access_token=${value()}`]),
    'X-Request-ID': value(),
    'X-Original-Method': value(),
    'X-Forwarded-For': `${value()}, 192.0.2.1`,
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    tracestate: `a=${value()}`.slice(0, 512),
  };
}

for (const protocol of ['HTTP', 'gRPC'] as const) {
  t.test(`over ${protocol}, no log line holds a token in any encoding, whatever the credential is like`, async t => {
    const seed = Number(process.env['GATECAR_FUZZ_SEED'] ?? 0) || 20_261;
    t.comment(`GATECAR_FUZZ_SEED=${seed}`);
    const random = seeded(seed);
    const stage = await scene(t, { GATECAR_AUDIT_LOG: 'all', GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
    const client = envoyClient(stage.grpc);
    t.teardown(() => client.close());
    const encodings = [
      ...Object.values(RECOGNISABLE).map(encode => ({ encode, isKnown: false })),
      ...Object.values({ ...RECOGNISABLE, ...HIDDEN }).map(encode => ({ encode, isKnown: true })),
    ];
    const ask = async (headers: Record<string, string>) => {
      if (protocol === 'HTTP') return void (await stage.ask({ headers }));
      const { 'X-Request-ID': id = '', 'X-Original-Method': method = '', ...others } = headers;
      const path = Object.entries(others).find(([name]) => /^X-(Original|Forwarded-Uri|Envoy)/.test(name))?.[1];
      await client.check({
        attributes: { request: { http: { id, method, path, headers: { authorization: '', ...lowerCase(others) } } } },
      });
    };
    const secrets: string[] = [];
    for (const { encode, isKnown } of Array.from({ length: ROUNDS }, () => encodings).flat()) {
      // Without its credential only a JWT can be told from other text.
      const token = isKnown && random.below(2) === 0 ? newOpaque() + newOpaque() : newJwt();
      secrets.push(token.slice(token.indexOf('.') + 1));
      const echo = encode(token, random);
      stage.standIn.behaviour = random.pick([accepts(), reviews({ error: `cannot verify ${echo}` })]);
      const good: Encoding = value => `Bearer ${value}`;
      const credential = random.pick([good, ...SPOILED])(token, random);
      const headers = encoded(encode, token, random);
      await ask(isKnown ? { ...headers, Authorization: credential } : headers);
    }
    const text = await stage.given();
    t.equal(text.match(/"audit":true/g)?.length, secrets.length, 'each has its line');
    t.match(text, /"uri":"(?!\[)[^"]/, 'what is no token is still logged');
    const found = leakedInAnyForm(text, ...secrets);
    t.equal(found, undefined);
  });
}

function lowerCase(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
