import { createHmac, randomUUID } from 'node:crypto';
import t from 'tap';
import { ask, askRaw } from '../fixtures/ask.ts';
import { decisions, faultsOf } from '../fixtures/audit-lines.ts';
import { leaked } from '../fixtures/find-token.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { denial, refusalOf, rejected } from './fixtures/support/response-matchers.ts';
import { ServiceAccountKeys } from './fixtures/support/service-account-keys.ts';
import { until } from './fixtures/support/until.ts';

// What somebody would try who has no good token, or one that was good.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('hostile tokens', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const good = await api.requestToken('apps', 'web', { audiences });
  const claims = await api.claimsFor('apps', 'web', { aud: audiences });
  const gatecar = await startGatecar(t, { ...settings, GATECAR_AUDIT_LOG: 'all' });
  const now = Math.floor(Date.now() / 1_000);

  t.test('signed by the right key, outside its time: the API server says which', async t => {
    t.equal((await ask(gatecar.auth, { token: api.signToken(claims) })).status, 200, 'inside it, it passes');
    // The API server allows for clocks that differ by a minute.
    const past = { iat: now - 3_600, nbf: now - 3_600, exp: now - 61 };
    t.strictSame(
      refusalOf(await ask(gatecar.auth, { token: api.signToken({ ...claims, ...past }) })),
      rejected('[invalid bearer token, service account token has expired]'),
    );
    const future = { iat: now + 90, nbf: now + 90 };
    t.strictSame(
      refusalOf(await ask(gatecar.auth, { token: api.signToken({ ...claims, ...future }) })),
      rejected('[invalid bearer token, service account token is not valid yet]'),
    );
  });

  t.test('not signed by the right key, in any of the known ways', async t => {
    const foreign = await ServiceAccountKeys.generate();
    const [header = '', payload = '', signature = ''] = good.split('.');
    const other = Buffer.from(JSON.stringify({ ...claims, sub: 'system:serviceaccount:kube-system:root' }));
    const hmac = (secret: string) => {
      const input = `${Buffer.from('{"alg":"HS256"}').toString('base64url')}.${payload}`;
      return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
    };
    const tokens = {
      'another key, its own kid': foreign.sign(claims),
      'another key, our kid': foreign.sign(claims, { kid: api.keys.kid }),
      'another key, no kid': foreign.sign(claims, { kid: undefined }),
      'alg none': api.signToken(claims, { alg: 'none' }),
      'alg none, kid dropped': api.signToken(claims, { alg: 'none', kid: undefined }),
      'alg NONE': `${Buffer.from('{"alg":"NONE"}').toString('base64url')}.${payload}.`,
      'HS256 with the public key': api.signToken(claims, { alg: 'HS256' }),
      'HS256 with the public key, no kid': hmac(api.keys.publicPem),
      'HS256 with nothing': hmac(''),
      'other claims under a good signature': `${header}.${other.toString('base64url')}.${signature}`,
      'signature cut off': `${header}.${payload}.`,
      'signature halved': `${header}.${payload}.${signature.slice(0, signature.length / 2)}`,
      'a key of its own in the header': foreign.sign(claims, { jwk: foreign.publicKey.export({ format: 'jwk' }) }),
    };
    for (const [title, token] of Object.entries(tokens)) {
      const { status, body, reason, challenge } = refusalOf(await ask(gatecar.auth, { token }));
      t.match(
        { status, reason, challenge },
        { status: 401, reason: 'token_rejected', challenge: /invalid_token/ },
        title,
      );
      t.match(body, { error: /^Token validation failed: (\[invalid bearer token, |invalid bearer token$)/ }, title);
    }
  });

  t.test('good once: its ServiceAccount is gone, or another one of that name is there', async t => {
    await api.createServiceAccount('apps', 'brief');
    const token = await api.requestToken('apps', 'brief', { audiences });
    const brief = await api.claimsFor('apps', 'brief', { aud: audiences });
    await api.deleteServiceAccount('apps', 'brief');
    // A fresh one each time: a yes would be remembered by the API server, for 10 s.
    const isGone = () => api.review(api.signToken({ ...brief, jti: randomUUID() }), audiences);
    await until('the API server knows of the deletion', async () => !(await isGone()).authenticated);
    t.strictSame(
      refusalOf(await ask(gatecar.auth, { token })),
      rejected('[invalid bearer token, serviceaccounts "brief" not found]'),
    );
    await api.createServiceAccount('apps', 'brief');
    const again = api.signToken({ ...brief, jti: randomUUID() });
    const isBack = async () => !(await isGone()).error?.includes('not found');
    await until('the API server knows the new one', isBack);
    const { status, body } = refusalOf(await ask(gatecar.auth, { token: again }));
    t.equal(status, 401);
    t.match(body, { error: /service account UID \(.*\) does not match claim/ });
  });

  t.test('what is no bearer token costs no review, and never passes for having a good one in it', async t => {
    const malformed = denial('credentials_malformed', 'Invalid Authorization header format', 'invalid_request');
    const values = {
      'two spaces': `Bearer  ${good}`,
      'a tab': `Bearer \t${good}`,
      'a tab for the space': `Bearer\t${good}`,
      'junk after it': `Bearer ${good} junk`,
      'a comma and more': `Bearer ${good}, Bearer ${good}`,
      'a parameter': `Bearer ${good};a=b`,
      'a name': `Bearer token=${good}`,
      quotes: `Bearer "${good}"`,
      'a percent escape': `Bearer ${good}%0a`,
      'a latin-1 byte': `Bearer ${good}\u00e9`,
      'a UTF-8 byte order mark': `Bearer \u00ef\u00bb\u00bf${good}`,
      'a no-break space': `Bearer \u00a0${good}`,
      'padding inside': `Bearer ab=cd`,
    };
    // Who uses another scheme has made no mistake with this one (RFC 6750 §3.1).
    const otherScheme = { ...malformed, challenge: 'Bearer realm="gatecar"' };
    const otherSchemes = {
      'no space': `Bearer${good}`,
      'another scheme': `Token ${good}`,
      'no scheme': good,
      'other credentials, a comma, and these': `Basic d2ViOndlYg==, Bearer ${good}`,
    };
    const reviews = await reviewsDuring(api, async () => {
      for (const [title, value] of Object.entries(values)) {
        t.strictSame(refusalOf(await ask(gatecar.auth, { headers: { Authorization: value } })), malformed, title);
      }
      for (const [title, value] of Object.entries(otherSchemes)) {
        t.strictSame(refusalOf(await ask(gatecar.auth, { headers: { Authorization: value } })), otherScheme, title);
      }
    });
    t.equal(reviews, 0);
  });

  t.test('bytes that HTTP does not allow never get as far as a review', async t => {
    const reviews = await reviewsDuring(api, async () => {
      for (const code of [0, 1, 7, 8, 10, 11, 12, 13, 27, 31, 127]) {
        for (const value of [
          `${String.fromCharCode(code)}${good}`,
          `${good}${String.fromCharCode(code)}`,
          `${good}${String.fromCharCode(code)}x`,
        ]) {
          const answer = await askRaw(gatecar.auth, request([`Authorization: Bearer ${value}`]));
          const title = `byte ${code} ${value.startsWith('ey') ? 'after' : 'before'} it`;
          // A line end there ends the line, and the field is what stands before it.
          const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);
          t.ok(status === 400 || status === 401, `${title}: ${status}`);
          t.equal(answer.match(/^HTTP\/1\.1 /gm)?.length, 1, 'one answer');
        }
      }
    });
    t.equal(reviews, 0);
  });

  t.test('two Authorization headers are refused, whichever is good, and whatever their case', async t => {
    const lines = [
      [`Authorization: Bearer ${good}`, `Authorization: Bearer ${good}`],
      [`Authorization: Bearer ${good}`, 'Authorization: Bearer x'],
      ['Authorization: Bearer x', `authorization: Bearer ${good}`],
      ['Authorization:', `AUTHORIZATION: Bearer ${good}`],
      ['Authorization: Basic d2ViOndlYg==', `Authorization: Bearer ${good}`],
    ];
    const reviews = await reviewsDuring(api, async () => {
      for (const pair of lines) {
        const answer = await askRaw(gatecar.auth, request(pair));
        t.match(
          answer,
          /^HTTP\/1\.1 401 [\s\S]*\r\nX-Gatecar-Reason: credentials_malformed\r\n/,
          pair[0]?.slice(0, 20) ?? '',
        );
      }
    });
    t.equal(reviews, 0);
    const once = await askRaw(gatecar.auth, request([`aUTHORIZATION: bEARER ${good}`]));
    t.match(once, /^HTTP\/1\.1 200 /, 'one is fine in any case');
  });

  t.test('a token in any other place is none', async t => {
    for (const headers of [
      { 'Proxy-Authorization': `Bearer ${good}` },
      { Cookie: `Authorization=Bearer ${good}` },
      { 'X-Authorization': `Bearer ${good}` },
    ]) {
      t.equal((await ask(gatecar.auth, { headers })).headers['x-gatecar-reason'], 'credentials_missing');
    }
    t.equal((await ask(gatecar.auth, { path: `/auth?access_token=${good}` })).status, 401);
    const body = `access_token=${good}`;
    const form = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(body.length) };
    t.equal((await ask(gatecar.auth, { method: 'POST', headers: form, body })).status, 401);
  });

  t.test('too long a token is refused unasked; too long a head closes the connection', async t => {
    const padded = (length: number) => `${good}${'A'.repeat(length - good.length)}`;
    const reviews = await reviewsDuring(api, async () => {
      t.strictSame(refusalOf(await ask(gatecar.auth, { token: padded(16_385) })), rejected('invalid bearer token'));
      t.strictSame(refusalOf(await ask(gatecar.auth, { token: padded(60_000) })), rejected('invalid bearer token'));
      t.match(await askRaw(gatecar.auth, request([`Authorization: Bearer ${padded(100_000)}`])), /^HTTP\/1\.1 431 /);
    });
    t.equal(reviews, 0);
    const longest = await reviewsDuring(api, async () => {
      // No JWT: its signature cannot be judged here.
      t.equal((await ask(gatecar.auth, { token: 'A'.repeat(16_384) })).status, 401);
    });
    t.equal(longest, 1, 'a byte less, and the API server is asked');
  });

  t.test('after all that, a good token still passes, and nothing of ours went wrong', async t => {
    t.equal((await ask(gatecar.auth, { token: good })).status, 200);
    const metrics = (await ask(gatecar.ops, { path: '/metrics' })).body;
    t.notMatch(metrics, /^gatecar_requests_total\{.*decision="unavailable".*\} [1-9]/m);
    t.strictSame(
      (await gatecar.logs()).filter(({ level }) => level === 'error' || level === 'fatal'),
      [],
    );
  });

  t.test('each decision of all that has its audit line, as the schema says, and none of them has a token', async t => {
    const asked = await decisions(gatecar.ops);
    const written = async () => (await gatecar.logs()).filter(({ audit }) => audit === true);
    await until('every line is written', async () => (await written()).length >= asked);
    const lines = await written();
    t.equal(lines.length, asked);
    t.strictSame(faultsOf(lines), []);
    t.equal(leaked(JSON.stringify(lines), [good]), undefined);
  });
});

function request(lines: readonly string[]): Buffer {
  return Buffer.from(
    ['GET /auth HTTP/1.1', 'Host: gatecar', 'Connection: close', ...lines, '', ''].join('\r\n'),
    'latin1',
  );
}
