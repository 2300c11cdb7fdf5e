import t from 'tap';
import { readClaims } from '../../src/credential/jwt-claims.ts';
import { Token } from '../../src/credential/token.ts';

const encode = (text: string): string => Buffer.from(text).toString('base64url');

/** Returns a JWT with exactly this payload text. */
const jwt = (payload: string, header = '{"alg":"RS256"}'): Token =>
  new Token(`${encode(header)}.${encode(payload)}.c2lnbmF0dXJl`);

const NONE = { issuer: undefined, audiences: undefined, expiresAtMs: undefined, notBeforeMs: undefined };

t.test('iss, aud and nbf are read if they have the correct type', async t => {
  t.strictSame(readClaims(jwt('{"iss":"https://a","aud":["b","c"],"nbf":1.5}')), {
    ...NONE,
    issuer: 'https://a',
    audiences: ['b', 'c'],
    notBeforeMs: 1500,
  });
  t.strictSame(readClaims(jwt('{"aud":"b"}')), { ...NONE, audiences: ['b'] }, 'a single audience may be a string');
  t.strictSame(readClaims(jwt('{"aud":[]}')), { ...NONE, audiences: [] });
  for (const payload of ['{"iss":1}', '{"aud":["b",1]}', '{"aud":{}}', '{"nbf":"1"}', '{"nbf":1e999}']) {
    t.strictSame(readClaims(jwt(payload)), NONE, payload);
  }
});

t.test('exp is read in milliseconds', async t => {
  t.strictSame(readClaims(jwt('{"exp":1767225600}')), { ...NONE, expiresAtMs: 1_767_225_600_000 });
  t.strictSame(readClaims(jwt('{"exp":1767225600.5}')), { ...NONE, expiresAtMs: 1_767_225_600_500 });
  t.strictSame(readClaims(jwt('{"exp":0}')), { ...NONE, expiresAtMs: 0 });
  t.strictSame(readClaims(jwt('{"exp":-1}')), { ...NONE, expiresAtMs: -1000 });
  t.strictSame(
    readClaims(jwt('{"exp":"1767225600"}')),
    { ...NONE, expiresAtMs: 1_767_225_600_000 },
    'the API server accepts a numeric string from OIDC issuers',
  );
  t.strictSame(readClaims(jwt('{"exp":"1.5e3"}')), { ...NONE, expiresAtMs: 1_500_000 });
});

t.test('a JWT whose exp is not a number or a numeric string has no expiry', async t => {
  for (const payload of [
    '{}',
    '{"exp":"tomorrow"}',
    '{"exp":""}',
    '{"exp":" 1"}',
    '{"exp":"0x1"}',
    '{"exp":null}',
    '{"exp":[1]}',
    '{"exp":1e999}',
    '{"EXP":1}',
  ]) {
    t.strictSame(readClaims(jwt(payload)), NONE, payload);
  }
});

t.test('the claims of a JWT without a signature are read', async t => {
  t.strictSame(readClaims(new Token(`${encode('{"alg":"none"}')}.${encode('{"exp":1}')}.`)), {
    ...NONE,
    expiresAtMs: 1000,
  });
});

t.test('a JWT payload in UTF-8 is read', async t => {
  t.strictSame(readClaims(jwt('{"sub":"ünïcødé 😀","exp":2}')), { ...NONE, expiresAtMs: 2000 });
});

t.test('a token without exactly three parts is opaque', async t => {
  const [header, payload] = [encode('{}'), encode('{"exp":1}')];
  const opaque = [
    'a',
    'a-shared-secret',
    header,
    `${header}.${payload}`,
    `${header}.${payload}.s.t`,
    'a.b.c.d.e',
    '..',
  ];
  for (const text of opaque) t.equal(readClaims(new Token(text)), undefined, text);
});

t.test('a token of three parts is opaque unless its header and payload are JSON objects', async t => {
  for (const text of ['', 'text', '[]', '[{"exp":1}]', 'null', '1', '"exp"', 'true', '{"exp":1', '{"exp":1}}']) {
    t.equal(readClaims(jwt(text)), undefined, `payload ${text}`);
    t.equal(readClaims(jwt('{"exp":1}', text)), undefined, `header ${text}`);
  }
  t.equal(readClaims(new Token('a.b.c')), undefined);
  t.equal(readClaims(new Token('~~~.+++.///')), undefined);
});
