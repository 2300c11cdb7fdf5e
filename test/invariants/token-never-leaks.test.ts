import t from 'tap';
import { envoyClient } from '../fixtures/envoy-client.ts';
import { everywhere, leaked, newJwt, newOpaque, startScenario } from '../fixtures/find-token.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { outageOfEachCause } from '../fixtures/outages.ts';
import { seeded } from '../fixtures/seeded-random.ts';
import { sendRaw } from '../fixtures/send-request.ts';
import { accepts, answers, type Behaviour, type ReviewRequest, reviews } from '../fixtures/stand-in-api-server.ts';
import { type Encoding, HIDDEN, leakedInAnyForm, RECOGNISABLE, SPOILED } from '../fixtures/token-encodings.ts';

/** How often each encoding is tested, with a new token and credential each time. */
const ROUNDS = LONG_FUZZ ? 3 : 1;

/** An API server that repeats everything it received wherever gatecar might read it. */
const echo = (status: number, type: string) => (request: ReviewRequest) =>
  answers(status, `<pre>${request.body} ${JSON.stringify(request.headers)}</pre>`, {
    'content-type': type,
    'retry-after': request.token ?? '',
    location: `/${request.token}`,
    'www-authenticate': `Bearer ${request.token}`,
  });

/** Returns a user in which one field is or contains the token. */
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
  t.test(`with ${kind}, an allow and every denial reveal no part of a token`, async t => {
    const scenario = await startScenario(t, { GATECAR_ALLOWED_NAMESPACES: 'default' });
    const cases: [reason: string, behaviour: Behaviour][] = [
      ['token_rejected', reviews({ error: '[invalid bearer token, service account token has expired]' })],
      ['audience_mismatch', accepts({ audiences: ['other'] })],
      ['user_missing', accepts({ user: {} })],
      ['namespace_denied', accepts({ user: { username: 'system:serviceaccount:blocked:my-app' } })],
    ];
    for (const [reason, behaviour] of [['', accepts()] as const, ...cases]) {
      const token = newToken();
      scenario.secrets.push(token);
      scenario.standIn.behaviour = behaviour;
      const request = { token, path: `/auth/${token}?${token}`, headers: everywhere(token) };
      t.equal(await scenario.send({ ...request, method: 'POST', body: token }), reason === '' ? 200 : 401);
      t.equal(await scenario.send(request), reason === '' ? 200 : 401);
    }
    const text = await scenario.output();
    t.equal(leaked(text, scenario.secrets), undefined);
    for (const [reason] of cases) t.match(text, `"reason":"${reason}"`, `${reason} was logged`);
    t.match(text, '"msg":"allowed"', 'allows were logged');
    t.match(text, '"uri":"/download/[token]/x"', 'the forwarded URI was logged');
  });

  t.test(`with ${kind}, no outage reveals a part of a token`, async t => {
    for (const { name, behaviour, cause } of outageOfEachCause) {
      await t.test(name, async t => {
        const scenario = await startScenario(t, { GATECAR_REVIEW_TIMEOUT: cause === 'timeout' ? '100ms' : '20s' });
        const token = newToken();
        scenario.secrets.push(token);
        scenario.standIn.behaviour = behaviour;
        t.equal(await scenario.send({ token, headers: everywhere(token) }), 503);
        t.equal(leaked(await scenario.output(), scenario.secrets), undefined);
      });
    }
  });

  t.test(`with ${kind}, what an API server repeats from the request is not repeated`, async t => {
    for (const status of [200, 201, 302, 400, 401, 403, 429, 500]) {
      const scenario = await startScenario(t);
      for (const type of ['application/json', 'text/html']) {
        const token = newToken();
        scenario.secrets.push(token);
        scenario.standIn.behaviour = (request, response) => echo(status, type)(request)(request, response);
        t.equal(await scenario.send({ token }), 503, `${status} ${type}`);
      }
      t.equal(leaked(await scenario.output(), scenario.secrets), undefined, `${status}`);
    }
  });

  for (const [policy, settings] of Object.entries({
    everyone: {},
    'no such user': { GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:default:other' },
  })) {
    t.test(`with ${kind}, credentials in a review result are not repeated if policy allows ${policy}`, async t => {
      const scenario = await startScenario(t, settings);
      const newSecret = () => {
        const token = newToken();
        scenario.secrets.push(token);
        return token;
      };
      scenario.standIn.behaviour = (request, response) => {
        const error = `cannot verify ${request.token}, asked by ${request.headers.authorization}`;
        reviews({ error })(request, response);
      };
      t.equal(await scenario.send({ token: newSecret() }), 401, 'status.error');
      for (const part of ['username', 'uid', 'groups', 'extra']) {
        const token = newSecret();
        scenario.standIn.behaviour = accepts({ user: echoedUser(token, part) });
        t.equal(await scenario.send({ token }), 503, part);
      }
      const token = newSecret();
      scenario.standIn.behaviour = accepts({ user: echoedUser(token, 'unread extra') });
      t.equal(await scenario.send({ token }), policy === 'everyone' ? 200 : 401, 'unread fields do no harm');
      t.equal(leaked(await scenario.output(), scenario.secrets), undefined);
    });
  }
}

/** Values that contain a token but are not a valid credential. */
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

t.test('a token in a malformed credential is not repeated', async t => {
  const scenario = await startScenario(t);
  for (const mutate of MALFORMED) {
    const token = newJwt();
    scenario.secrets.push(token);
    t.equal(await scenario.send({ headers: { ...everywhere(token), Authorization: mutate(token) } }), 401);
  }
  const token = newJwt();
  scenario.secrets.push(token);
  t.equal(
    await scenario.send({ headers: { ...everywhere(token), Authorization: [`Bearer ${token}`, 'Bearer x'] } }),
    401,
  );
  t.equal(await scenario.send({ headers: everywhere(token) }), 401, 'without a credential');
  t.equal(scenario.standIn.requests.length, 0);
  t.equal(leaked(await scenario.output(), scenario.secrets), undefined);
});

t.test('a response to malformed HTTP repeats none of it', async t => {
  const scenario = await startScenario(t);
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
  let received = '';
  for (const bytes of spoiled) received += await sendRaw(scenario.auth, bytes);
  t.equal(received.match(/^HTTP\/1\.1 4(00|31|04) /gm)?.length, spoiled.length);
  t.equal(leaked(received + (await scenario.output()), [...scenario.secrets, token]), undefined);
});

/**
 * Returns every header that gatecar may log, each with one encoding of the token. Characters that
 * HTTP does not allow become spaces.
 */
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
  t.test(
    `over ${protocol}, no log line holds a token in any encoding, whatever the form of the credential`,
    async t => {
      const seed = Number(process.env['GATECAR_FUZZ_SEED'] ?? 0) || 20_261;
      t.comment(`GATECAR_FUZZ_SEED=${seed}`);
      const random = seeded(seed);
      const scenario = await startScenario(t, { GATECAR_AUDIT_LOG: 'all', GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
      const client = envoyClient(scenario.grpc);
      t.teardown(() => client.close());
      const encodings = [
        ...Object.values(RECOGNISABLE).map(encode => ({ encode, isCredential: false })),
        ...Object.values({ ...RECOGNISABLE, ...HIDDEN }).map(encode => ({ encode, isCredential: true })),
      ];
      const sendHeaders = async (headers: Record<string, string>) => {
        if (protocol === 'HTTP') return void (await scenario.send({ headers }));
        const { 'X-Request-ID': id = '', 'X-Original-Method': method = '', ...fields } = headers;
        const path = Object.entries(fields).find(([name]) => /^X-(Original|Forwarded-Uri|Envoy)/.test(name))?.[1];
        await client.check({
          attributes: { request: { http: { id, method, path, headers: { authorization: '', ...lowerCase(fields) } } } },
        });
      };
      const secrets: string[] = [];
      for (const { encode, isCredential } of Array.from({ length: ROUNDS }, () => encodings).flat()) {
        // Without its credential only a JWT can be distinguished from other text.
        const token = isCredential && random.below(2) === 0 ? newOpaque() + newOpaque() : newJwt();
        secrets.push(token.slice(token.indexOf('.') + 1));
        const echo = encode(token, random);
        scenario.standIn.behaviour = random.pick([accepts(), reviews({ error: `cannot verify ${echo}` })]);
        const wellFormed: Encoding = value => `Bearer ${value}`;
        const credential = random.pick([wellFormed, ...SPOILED])(token, random);
        const headers = encoded(encode, token, random);
        await sendHeaders(isCredential ? { ...headers, Authorization: credential } : headers);
      }
      const text = await scenario.output();
      t.equal(text.match(/"audit":true/g)?.length, secrets.length, 'each request has an audit line');
      t.match(text, /"uri":"(?!\[)[^"]/, 'a URI without a token is still logged');
      const found = leakedInAnyForm(text, ...secrets);
      t.equal(found, undefined);
    },
  );
}

function lowerCase(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
