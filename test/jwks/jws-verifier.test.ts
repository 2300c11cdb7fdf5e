import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import t from 'tap';
import { createJwsVerifier } from '../../src/jwks/jws-verifier.ts';

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const jwk = ({ publicKey }: { publicKey: KeyObject }, alg: string, kid: string) => ({
  ...publicKey.export({ format: 'jwk' }),
  ...{ use: 'sig', alg, kid },
});
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A JWS of that header, signed whatever the header says. */
function jws(header: object, { privateKey }: { privateKey: KeyObject }, digest = 'sha256'): string {
  const input = `${encode(header)}.${encode({ sub: 'anybody' })}`;
  const signature = sign(digest, Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}

/** Another signature of the same length. */
function spoilt(token: string): string {
  const at = token.lastIndexOf('.') + 11;
  return `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`;
}

const both = { keys: [jwk(rsa, 'RS256', 'r'), jwk(curve, 'ES256', 'e')] };

t.test('signatures of RSA and of elliptic curves are told apart', async t => {
  const keys = createJwsVerifier(both);
  for (const token of [jws({ alg: 'RS256', kid: 'r' }, rsa), jws({ alg: 'ES256', kid: 'e' }, curve)]) {
    t.equal(keys.verify(token), 'good');
    t.equal(keys.verify(spoilt(token)), 'bad');
    t.equal(keys.verify(token.slice(0, -20)), 'bad', 'cut off');
    t.equal(keys.verify(token.replace('.ey', '.fy')), 'bad', 'another payload');
  }
});

t.test('a key of another name, or of another algorithm, is not known', async t => {
  const keys = createJwsVerifier(both);
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

t.test('a form that is not read is never judged', async t => {
  const keys = createJwsVerifier(both);
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

t.test('what was asked about before makes no difference', async t => {
  const ours = jws({ alg: 'RS256', kid: 'r' }, rsa);
  const [header = '', payload = '', signature = ''] = ours.split('.');
  const asked = {
    [ours]: 'good',
    [spoilt(ours)]: 'bad',
    [jws({ alg: 'ES256', kid: 'e' }, curve)]: 'good',
    [jws({ alg: 'RS256', kid: 'x' }, rsa)]: 'unknown key',
    [`${header}.${signature}`]: 'unknown form',
    [`${header}x.${payload}.${signature}`]: 'unknown form',
    [`${header}.${payload}..${signature}`]: 'unknown form',
    [header]: 'unknown form',
    '': 'unknown form',
  };
  const keys = createJwsVerifier(both);
  for (const [first, found] of Object.entries(asked)) {
    for (const [second, then] of Object.entries(asked)) {
      t.equal(keys.verify(first), found);
      t.equal(keys.verify(second), then, `${second} after ${first}`);
    }
  }
});

t.test('a key that cannot be used is left out, and the others stay', async t => {
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
  const keys = createJwsVerifier({ keys: [...unusable, ...both.keys] });
  t.equal(keys.verify(good), 'good');
  t.equal(keys.verify(jws({ alg: 'RS256', kid: 'x' }, rsa)), 'unknown key');
});

t.test('what takes long is checked beside the event loop, and past a bound not at all', async t => {
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
    t.equal(await check, 'good');
    t.equal(await keys.verify(spoilt(token)), 'bad');
  }
  const keys = createJwsVerifier({ keys: [jwk(p384, 'ES384', 'x')] });
  const token = jws({ alg: 'ES384', kid: 'x' }, p384, 'sha384');
  const checks = await Promise.all(Array.from({ length: 70 }, () => keys.verify(token)));
  t.equal(checks.filter(check => check === 'good').length, 64);
  t.equal(checks.filter(check => check === 'unknown form').length, 6);
  t.equal(await keys.verify(token), 'good', 'there is room again');
});

t.test('of several keys of one name each counts', async t => {
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keys = createJwsVerifier({
    keys: [jwk(rsa, 'RS256', 'x'), jwk(other, 'RS256', 'x'), jwk(curve, 'ES256', 'x'), jwk(other, 'RS512', 'x')],
  });
  for (const pair of [rsa, other]) t.equal(keys.verify(jws({ alg: 'RS256', kid: 'x' }, pair)), 'good');
  t.equal(keys.verify(jws({ alg: 'ES256', kid: 'x' }, curve)), 'good');
  t.equal(keys.verify(spoilt(jws({ alg: 'RS256', kid: 'x' }, rsa))), 'bad');
  t.equal(keys.verify(jws({ alg: 'RS512', kid: 'x' }, rsa, 'sha512')), 'bad');
  t.equal(keys.verify(jws({ alg: 'RS384', kid: 'x' }, rsa, 'sha384')), 'unknown key');
});

t.test('more than 16 keys of one name are none, and hold nothing up', async t => {
  const same = (count: number) =>
    createJwsVerifier({ keys: Array.from({ length: count }, () => jwk(rsa, 'RS256', 'x')) });
  const token = jws({ alg: 'RS256', kid: 'x' }, rsa);
  t.equal(same(16).verify(token), 'good');
  t.equal(same(17).verify(token), 'unknown key');
  t.equal(same(17).usable, false);
});

t.test('a set is usable if it has a key to verify with', async t => {
  t.equal(createJwsVerifier({ keys: [] }).usable, false);
  t.equal(createJwsVerifier({ keys: [{ kty: 'RSA', n: 'AAAA', e: 'AQAB', alg: 'RS256', kid: 'x' }] }).usable, false);
  t.equal(createJwsVerifier({ keys: [{ kty: 'RSA', alg: 'RS256', kid: 'x' }, jwk(rsa, 'RS256', 'r')] }).usable, true);
});

t.test('of a thousand keys only those that tokens name are parsed', async t => {
  let read = 0;
  const spied = (key: object, kid: string) =>
    Object.defineProperty({ ...key, kid }, 'kty', {
      enumerable: true,
      get() {
        read += 1;
        return 'RSA';
      },
    });
  const list = Array.from({ length: 1000 }, (_, at) => spied(jwk(rsa, 'RS256', 'x'), `k${at}`));
  const keys = createJwsVerifier({ keys: list });
  const [before] = [read];
  for (let time = 0; time < 3; time += 1) t.equal(keys.verify(jws({ alg: 'RS256', kid: 'k999' }, rsa)), 'good');
  t.ok(before > 0 && before < 10, `one key was read to see that there is one: ${before}`);
  t.ok(read - before < 10, `one key was read for three tokens: ${read - before}`);
});

t.test('what is no JWK Set is an error', async t => {
  for (const document of [{}, { keys: 1 }, { keys: {} }]) t.throws(() => createJwsVerifier(document), TypeError);
});
