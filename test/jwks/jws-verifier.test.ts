import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import t from 'tap';
import { createJwsVerifier } from '../../src/jwks/jws-verifier.ts';

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const jwk = ({ publicKey }: { publicKey: KeyObject }, alg: string, kid: string) => ({
  ...publicKey.export({ format: 'jwk' }),
  use: 'sig',
  alg,
  kid,
});
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Returns a JWS with this header, signed by this key even if the header contradicts. */
function jws(header: object, { privateKey }: { privateKey: KeyObject }, digest = 'sha256'): string {
  const input = `${encode(header)}.${encode({ sub: 'jane' })}`;
  const signature = sign(digest, Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}

/** Returns the token with an invalid signature of the same length. */
function withInvalidSignature(token: string): string {
  const at = token.lastIndexOf('.') + 11;
  return `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`;
}

const jwks = { keys: [jwk(rsa, 'RS256', 'r'), jwk(curve, 'ES256', 'e')] };

t.test('RSA and elliptic-curve signatures are verified', async t => {
  const keys = createJwsVerifier(jwks);
  for (const token of [jws({ alg: 'RS256', kid: 'r' }, rsa), jws({ alg: 'ES256', kid: 'e' }, curve)]) {
    t.equal(keys.verify(token), 'valid');
    t.equal(keys.verify(withInvalidSignature(token)), 'invalid');
    t.equal(keys.verify(token.slice(0, -20)), 'invalid', 'a truncated signature');
    t.equal(keys.verify(token.replace('.ey', '.fy')), 'invalid', 'a changed payload');
  }
});

t.test('a token with another kid or algorithm has an unknown key', async t => {
  const keys = createJwsVerifier(jwks);
  for (const token of [
    jws({ alg: 'RS256', kid: 'other' }, rsa),
    jws({ alg: 'RS512', kid: 'r' }, rsa, 'sha512'),
    jws({ alg: 'none', kid: 'r' }, rsa),
    jws({ alg: 'HS256', kid: 'r' }, rsa),
    jws({ alg: 'RS256', kid: 'e' }, curve),
    jws({ kid: 'r' }, rsa),
  ]) {
    t.equal(keys.verify(token), 'unknown key', token.slice(0, 40));
  }
});

t.test('a token in an unsupported form is never valid or invalid', async t => {
  const keys = createJwsVerifier(jwks);
  const good = jws({ alg: 'RS256', kid: 'r' }, rsa);
  for (const token of [
    jws({ alg: 'RS256' }, rsa),
    good.slice(0, good.lastIndexOf('.') + 1),
    `${good}=`,
    'opaque',
    '***.e30.AAAA',
    ...['null', '1', '[]', '"kid"', '{'].map(text => `${Buffer.from(text).toString('base64url')}.e30.AAAA`),
  ]) {
    t.equal(keys.verify(token), 'unknown form', token.slice(0, 40));
  }
});

t.test('the result for a token does not depend on the token verified before', async t => {
  const valid = jws({ alg: 'RS256', kid: 'r' }, rsa);
  const [header = '', payload = '', signature = ''] = valid.split('.');
  const expected = {
    [valid]: 'valid',
    [withInvalidSignature(valid)]: 'invalid',
    [jws({ alg: 'ES256', kid: 'e' }, curve)]: 'valid',
    [jws({ alg: 'RS256', kid: 'x' }, rsa)]: 'unknown key',
    [`${header}.${signature}`]: 'unknown form',
    [`${header}x.${payload}.${signature}`]: 'unknown form',
    [`${header}.${payload}..${signature}`]: 'unknown form',
    [header]: 'unknown form',
    '': 'unknown form',
  };
  const keys = createJwsVerifier(jwks);
  for (const [first, firstResult] of Object.entries(expected)) {
    for (const [second, secondResult] of Object.entries(expected)) {
      t.equal(keys.verify(first), firstResult);
      t.equal(keys.verify(second), secondResult, `${second} after ${first}`);
    }
  }
});

t.test('an unusable key is ignored, and the other keys of its set are used', async t => {
  const good = jws({ alg: 'RS256', kid: 'r' }, rsa);
  const { kid: _, ...nameless } = jwk(rsa, 'RS256', 'x');
  const unusable = [
    null,
    'x',
    nameless,
    { ...nameless, kid: 1 },
    { ...jwk(rsa, 'RS256', 'x'), alg: undefined },
    jwk(rsa, 'PS256', 'x'),
    { kty: 'oct', k: 'AAAA', alg: 'RS256', kid: 'x' },
    { kty: 'RSA', e: 'AQAB', alg: 'RS256', kid: 'x' },
    { kty: 'RSA', n: '!', e: '!', alg: 'RS256', kid: 'x' },
    { kty: 'RSA', n: 'AAAA', e: 'AQAB', alg: 'RS256', kid: 'x' },
    jwk(generateKeyPairSync('rsa', { modulusLength: 1024 }), 'RS256', 'x'),
    jwk(curve, 'RS256', 'x'),
    jwk(rsa, 'ES256', 'x'),
    { ...rsa.privateKey.export({ format: 'jwk' }), alg: 'RS256', kid: 'x' },
    { ...jwk(rsa, 'RS256', 'x'), use: 'enc' },
    { ...jwk(rsa, 'RS256', 'x'), key_ops: ['encrypt'] },
    { ...jwk(rsa, 'RS256', 'x'), key_ops: 'verify' },
    jwk(generateKeyPairSync('ec', { namedCurve: 'P-384' }), 'ES256', 'x'),
    jwk(curve, 'ES384', 'x'),
    jwk(generateKeyPairSync('ed25519'), 'RS256', 'x'),
    { ...jwk(curve, 'ES256', 'x'), y: jwk(curve, 'ES256', 'x').x },
  ];
  const keys = createJwsVerifier({ keys: [...unusable, ...jwks.keys] });
  t.equal(keys.verify(good), 'valid');
  t.equal(keys.verify(jws({ alg: 'RS256', kid: 'x' }, rsa)), 'unknown key');
});

t.test('at most 64 slow checks run at once, off the event loop; more are unverifiable', async t => {
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' });
  const large = generateKeyPairSync('rsa', { modulusLength: 4104 });
  for (const [pair, alg, digest] of [
    [p384, 'ES384', 'sha384'],
    [p521, 'ES512', 'sha512'],
    [large, 'RS256', 'sha256'],
  ] as const) {
    const keys = createJwsVerifier({ keys: [jwk(pair, alg, 'x')] });
    const token = jws({ alg, kid: 'x' }, pair, digest);
    const check = keys.verify(token);
    t.type(check, Promise, alg);
    t.equal(await check, 'valid');
    t.equal(await keys.verify(withInvalidSignature(token)), 'invalid');
  }
  const keys = createJwsVerifier({ keys: [jwk(p384, 'ES384', 'x')] });
  const token = jws({ alg: 'ES384', kid: 'x' }, p384, 'sha384');
  const checks = await Promise.all(Array.from({ length: 70 }, () => keys.verify(token)));
  t.equal(checks.filter(check => check === 'valid').length, 64);
  t.equal(checks.filter(check => check === 'unknown form').length, 6);
  t.equal(await keys.verify(token), 'valid', 'slots are free again');
});

t.test('each of several keys with the same kid is tried', async t => {
  const second = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keys = createJwsVerifier({
    keys: [jwk(rsa, 'RS256', 'x'), jwk(second, 'RS256', 'x'), jwk(curve, 'ES256', 'x'), jwk(second, 'RS512', 'x')],
  });
  for (const pair of [rsa, second]) t.equal(keys.verify(jws({ alg: 'RS256', kid: 'x' }, pair)), 'valid');
  t.equal(keys.verify(jws({ alg: 'ES256', kid: 'x' }, curve)), 'valid');
  t.equal(keys.verify(withInvalidSignature(jws({ alg: 'RS256', kid: 'x' }, rsa))), 'invalid');
  t.equal(keys.verify(jws({ alg: 'RS512', kid: 'x' }, rsa, 'sha512')), 'invalid');
  t.equal(keys.verify(jws({ alg: 'RS384', kid: 'x' }, rsa, 'sha384')), 'unknown key');
});

t.test('more than 16 keys with the same kid are ignored', async t => {
  const verifierOf = (count: number) =>
    createJwsVerifier({ keys: Array.from({ length: count }, () => jwk(rsa, 'RS256', 'x')) });
  const token = jws({ alg: 'RS256', kid: 'x' }, rsa);
  t.equal(verifierOf(16).verify(token), 'valid');
  t.equal(verifierOf(17).verify(token), 'unknown key');
  t.equal(verifierOf(17).usable, false);
});

t.test('a JWKS is usable if it has at least one usable key', async t => {
  t.equal(createJwsVerifier({ keys: [] }).usable, false);
  t.equal(createJwsVerifier({ keys: [{ kty: 'RSA', n: 'AAAA', e: 'AQAB', alg: 'RS256', kid: 'x' }] }).usable, false);
  t.equal(createJwsVerifier({ keys: [{ kty: 'RSA', alg: 'RS256', kid: 'x' }, jwk(rsa, 'RS256', 'r')] }).usable, true);
});

t.test('only the keys that tokens name are parsed from a JWKS of 1,000 keys', async t => {
  let reads = 0;
  const spied = (key: object, kid: string) =>
    Object.defineProperty({ ...key, kid }, 'kty', {
      enumerable: true,
      get() {
        reads += 1;
        return 'RSA';
      },
    });
  const list = Array.from({ length: 1000 }, (_, at) => spied(jwk(rsa, 'RS256', 'x'), `k${at}`));
  const keys = createJwsVerifier({ keys: list });
  const [before] = [reads];
  for (let check = 0; check < 3; check += 1) t.equal(keys.verify(jws({ alg: 'RS256', kid: 'k999' }, rsa)), 'valid');
  t.ok(before > 0 && before < 10, `only one key was read to find a usable one: ${before}`);
  t.ok(reads - before < 10, `only one key was read for three tokens: ${reads - before}`);
});

t.test('a document that is not a JWK Set throws a TypeError', async t => {
  for (const document of [{}, { keys: 1 }, { keys: {} }]) t.throws(() => createJwsVerifier(document), TypeError);
});
