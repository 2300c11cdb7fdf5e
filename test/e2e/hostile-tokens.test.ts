import { createHmac, randomUUID } from 'node:crypto';
import t from 'tap';
import { decisions, faultsOf } from '../fixtures/audit-lines.ts';
import { leaked } from '../fixtures/find-token.ts';
import { sendRaw, sendRequest } from '../fixtures/send-request.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { denial, denialOf, rejected } from './fixtures/support/response-matchers.ts';
import { ServiceAccountKeys } from './fixtures/support/service-account-keys.ts';
import { until } from './fixtures/support/until.ts';

// Tokens that an attacker might try: invalid ones, and ones that were valid once.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('hostile tokens are rejected', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const validToken = await api.requestToken('apps', 'web', { audiences });
  const claims = await api.claimsFor('apps', 'web', { aud: audiences });
  const gatecar = await startGatecar(t, { ...settings, GATECAR_AUDIT_LOG: 'all' });
  const now = Math.floor(Date.now() / 1_000);

  t.test("a token signed by the right key but outside its time is rejected with the API server's text", async t => {
    t.equal(
      (await sendRequest(gatecar.auth, { token: api.signToken(claims) })).status,
      200,
      'inside its time the token passes',
    );
    // The API server allows clocks to differ by a minute.
    const past = { iat: now - 3_600, nbf: now - 3_600, exp: now - 61 };
    t.strictSame(
      denialOf(await sendRequest(gatecar.auth, { token: api.signToken({ ...claims, ...past }) })),
      rejected('[invalid bearer token, service account token has expired]'),
    );
    const future = { iat: now + 90, nbf: now + 90 };
    t.strictSame(
      denialOf(await sendRequest(gatecar.auth, { token: api.signToken({ ...claims, ...future }) })),
      rejected('[invalid bearer token, service account token is not valid yet]'),
    );
  });

  t.test('tokens that are not signed by the right key are rejected', async t => {
    const unknownKeys = await ServiceAccountKeys.generate();
    const [header = '', payload = '', signature = ''] = validToken.split('.');
    const otherClaims = Buffer.from(JSON.stringify({ ...claims, sub: 'system:serviceaccount:kube-system:root' }));
    const hmac = (secret: string) => {
      const input = `${Buffer.from('{"alg":"HS256"}').toString('base64url')}.${payload}`;
      return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
    };
    const tokens = {
      'another key, its own kid': unknownKeys.sign(claims),
      "another key, the API server's kid": unknownKeys.sign(claims, { kid: api.keys.kid }),
      'another key, no kid': unknownKeys.sign(claims, { kid: undefined }),
      'alg none': api.signToken(claims, { alg: 'none' }),
      'alg none, kid dropped': api.signToken(claims, { alg: 'none', kid: undefined }),
      'alg NONE': `${Buffer.from('{"alg":"NONE"}').toString('base64url')}.${payload}.`,
      'HS256 with the public key': api.signToken(claims, { alg: 'HS256' }),
      'HS256 with the public key, no kid': hmac(api.keys.publicPem),
      'HS256 with nothing': hmac(''),
      'other claims under a valid signature': `${header}.${otherClaims.toString('base64url')}.${signature}`,
      'signature cut off': `${header}.${payload}.`,
      'signature halved': `${header}.${payload}.${signature.slice(0, signature.length / 2)}`,
      "the attacker's key in the header": unknownKeys.sign(claims, {
        jwk: unknownKeys.publicKey.export({ format: 'jwk' }),
      }),
    };
    for (const [title, token] of Object.entries(tokens)) {
      const { status, body, reason, challenge } = denialOf(await sendRequest(gatecar.auth, { token }));
      t.match(
        { status, reason, challenge },
        { status: 401, reason: 'token_rejected', challenge: /invalid_token/ },
        title,
      );
      t.match(body, { error: /^Token validation failed: (\[invalid bearer token, |invalid bearer token$)/ }, title);
    }
  });

  t.test('tokens of a deleted ServiceAccount are rejected, even if one of that name exists again', async t => {
    await api.createServiceAccount('apps', 'brief');
    const token = await api.requestToken('apps', 'brief', { audiences });
    const brief = await api.claimsFor('apps', 'brief', { aud: audiences });
    await api.deleteServiceAccount('apps', 'brief');
    // A new token each time: the API server caches an allow for 10 s.
    const isGone = () => api.review(api.signToken({ ...brief, jti: randomUUID() }), audiences);
    await until('the API server knows of the deletion', async () => !(await isGone()).authenticated);
    t.strictSame(
      denialOf(await sendRequest(gatecar.auth, { token })),
      rejected('[invalid bearer token, serviceaccounts "brief" not found]'),
    );
    await api.createServiceAccount('apps', 'brief');
    const again = api.signToken({ ...brief, jti: randomUUID() });
    const isBack = async () => !(await isGone()).error?.includes('not found');
    await until('the API server knows the new account', isBack);
    const { status, body } = denialOf(await sendRequest(gatecar.auth, { token: again }));
    t.equal(status, 401);
    t.match(body, { error: /service account UID \(.*\) does not match claim/ });
  });

  t.test('a malformed credential costs no review, and never passes because it contains a valid token', async t => {
    const malformed = denial('credentials_malformed', 'Invalid Authorization header format', 'invalid_request');
    const values = {
      'two spaces': `Bearer  ${validToken}`,
      'a tab': `Bearer \t${validToken}`,
      'a tab for the space': `Bearer\t${validToken}`,
      'text after it': `Bearer ${validToken} text`,
      'a comma and more': `Bearer ${validToken}, Bearer ${validToken}`,
      'a parameter': `Bearer ${validToken};a=b`,
      'a name': `Bearer token=${validToken}`,
      quotes: `Bearer "${validToken}"`,
      'a percent escape': `Bearer ${validToken}%0a`,
      'a latin-1 byte': `Bearer ${validToken}\u00e9`,
      'a UTF-8 byte order mark': `Bearer \u00ef\u00bb\u00bf${validToken}`,
      'a non-breaking space': `Bearer \u00a0${validToken}`,
      'padding inside': `Bearer ab=cd`,
    };
    // A client that uses another scheme has made no error in this one (RFC 6750 §3.1).
    const otherScheme = { ...malformed, challenge: 'Bearer realm="gatecar"' };
    const otherSchemes = {
      'no space': `Bearer${validToken}`,
      'another scheme': `Token ${validToken}`,
      'no scheme': validToken,
      'other credentials, a comma, and these': `Basic d2ViOndlYg==, Bearer ${validToken}`,
    };
    const reviews = await reviewsDuring(api, async () => {
      for (const [title, value] of Object.entries(values)) {
        t.strictSame(
          denialOf(await sendRequest(gatecar.auth, { headers: { Authorization: value } })),
          malformed,
          title,
        );
      }
      for (const [title, value] of Object.entries(otherSchemes)) {
        t.strictSame(
          denialOf(await sendRequest(gatecar.auth, { headers: { Authorization: value } })),
          otherScheme,
          title,
        );
      }
    });
    t.equal(reviews, 0);
  });

  t.test('bytes that HTTP does not allow cause no review', async t => {
    const reviews = await reviewsDuring(api, async () => {
      for (const code of [0, 1, 7, 8, 10, 11, 12, 13, 27, 31, 127]) {
        for (const value of [
          `${String.fromCharCode(code)}${validToken}`,
          `${validToken}${String.fromCharCode(code)}`,
          `${validToken}${String.fromCharCode(code)}x`,
        ]) {
          const answer = await sendRaw(gatecar.auth, request([`Authorization: Bearer ${value}`]));
          const title = `byte ${code} ${value.startsWith('ey') ? 'after' : 'before'} it`;
          // A line end there ends the field, whose value is the part before it.
          const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);
          t.ok(status === 400 || status === 401, `${title}: ${status}`);
          t.equal(answer.match(/^HTTP\/1\.1 /gm)?.length, 1, 'exactly one response');
        }
      }
    });
    t.equal(reviews, 0);
  });

  t.test('two Authorization headers are rejected, whichever is valid, in any case', async t => {
    const lines = [
      [`Authorization: Bearer ${validToken}`, `Authorization: Bearer ${validToken}`],
      [`Authorization: Bearer ${validToken}`, 'Authorization: Bearer x'],
      ['Authorization: Bearer x', `authorization: Bearer ${validToken}`],
      ['Authorization:', `AUTHORIZATION: Bearer ${validToken}`],
      ['Authorization: Basic d2ViOndlYg==', `Authorization: Bearer ${validToken}`],
    ];
    const reviews = await reviewsDuring(api, async () => {
      for (const pair of lines) {
        const answer = await sendRaw(gatecar.auth, request(pair));
        t.match(
          answer,
          /^HTTP\/1\.1 401 [\s\S]*\r\nX-Gatecar-Reason: credentials_malformed\r\n/,
          pair[0]?.slice(0, 20) ?? '',
        );
      }
    });
    t.equal(reviews, 0);
    const once = await sendRaw(gatecar.auth, request([`aUTHORIZATION: bEARER ${validToken}`]));
    t.match(once, /^HTTP\/1\.1 200 /, 'a single header is accepted in any case');
  });

  t.test('a token in any other place counts as none', async t => {
    for (const headers of [
      { 'Proxy-Authorization': `Bearer ${validToken}` },
      { Cookie: `Authorization=Bearer ${validToken}` },
      { 'X-Authorization': `Bearer ${validToken}` },
    ]) {
      t.equal((await sendRequest(gatecar.auth, { headers })).headers['x-gatecar-reason'], 'credentials_missing');
    }
    t.equal((await sendRequest(gatecar.auth, { path: `/auth?access_token=${validToken}` })).status, 401);
    const body = `access_token=${validToken}`;
    const form = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(body.length) };
    t.equal((await sendRequest(gatecar.auth, { method: 'POST', headers: form, body })).status, 401);
  });

  t.test('too long a token is rejected without a review, and too long a head closes the connection', async t => {
    const padded = (length: number) => `${validToken}${'A'.repeat(length - validToken.length)}`;
    const reviews = await reviewsDuring(api, async () => {
      t.strictSame(
        denialOf(await sendRequest(gatecar.auth, { token: padded(16_385) })),
        rejected('invalid bearer token'),
      );
      t.strictSame(
        denialOf(await sendRequest(gatecar.auth, { token: padded(60_000) })),
        rejected('invalid bearer token'),
      );
      t.match(await sendRaw(gatecar.auth, request([`Authorization: Bearer ${padded(100_000)}`])), /^HTTP\/1\.1 431 /);
    });
    t.equal(reviews, 0);
    const longest = await reviewsDuring(api, async () => {
      // Not a JWT, so its signature cannot be verified locally.
      t.equal((await sendRequest(gatecar.auth, { token: 'A'.repeat(16_384) })).status, 401);
    });
    t.equal(longest, 1, 'one byte less, and the API server reviews it');
  });

  t.test('after all hostile tokens a valid one passes, and no error was logged', async t => {
    t.equal((await sendRequest(gatecar.auth, { token: validToken })).status, 200);
    const metrics = (await sendRequest(gatecar.ops, { path: '/metrics' })).body;
    t.notMatch(metrics, /^gatecar_requests_total\{.*decision="unavailable".*\} [1-9]/m);
    t.strictSame(
      (await gatecar.logs()).filter(({ level }) => level === 'error' || level === 'fatal'),
      [],
    );
  });

  t.test(
    'each decision about hostile tokens has an audit line that matches the schema and contains no token',
    async t => {
      const decisionCount = await decisions(gatecar.ops);
      const auditLogLines = async () => (await gatecar.logs()).filter(({ audit }) => audit === true);
      await until('every line is written', async () => (await auditLogLines()).length >= decisionCount);
      const lines = await auditLogLines();
      t.equal(lines.length, decisionCount);
      t.strictSame(faultsOf(lines), []);
      t.equal(leaked(JSON.stringify(lines), [validToken]), undefined);
    },
  );
});

function request(lines: readonly string[]): Buffer {
  return Buffer.from(
    ['GET /auth HTTP/1.1', 'Host: gatecar', 'Connection: close', ...lines, '', ''].join('\r\n'),
    'latin1',
  );
}
