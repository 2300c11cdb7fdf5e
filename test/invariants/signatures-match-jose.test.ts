import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import process from 'node:process';
import { compactVerify, createLocalJWKSet } from 'jose';
import t from 'tap';
import { createJwsVerifier, type SignatureCheck } from '../../src/jwks/jws-verifier.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';

// gatecar verifies signatures itself. Here jose verifies the same tokens with the same JWK Set.

const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const CASES = LONG_FUZZ ? 1_500 : 300;

interface Pair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

const DIGESTS = { RS256: 'sha256', RS384: 'sha384', ES256: 'sha256', ES384: 'sha384', ES512: 'sha512' } as const;
type Algorithm = keyof typeof DIGESTS;

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const rsa3072 = generateKeyPairSync('rsa', { modulusLength: 3072 });
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' });
const unpublished = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** The published keys by their `kid`. */
const PUBLISHED: readonly (readonly [kid: string, alg: Algorithm, pair: Pair])[] = [
  ['r256', 'RS256', rsa],
  ['r384', 'RS384', rsa3072],
  ['e256', 'ES256', p256],
  ['e384', 'ES384', p384],
  ['e512', 'ES512', p521],
];
const jwks = {
  keys: [
    ...PUBLISHED.map(([kid, alg, { publicKey }]) => ({ ...publicKey.export({ format: 'jwk' }), alg, kid, use: 'sig' })),
    // Keys that contradict themselves.
    { ...p384.publicKey.export({ format: 'jwk' }), alg: 'ES256', kid: 'wrong-curve' },
    { ...rsa.publicKey.export({ format: 'jwk' }), alg: 'ES256', kid: 'rsa-as-ec' },
    { ...p256.publicKey.export({ format: 'jwk' }), alg: 'RS256', kid: 'ec-as-rsa' },
  ],
};
const verifier = createJwsVerifier(jwks);
const joseKeys = createLocalJWKSet(jwks as Parameters<typeof createLocalJWKSet>[0]);
const joseAccepts = (jws: string): Promise<boolean> =>
  compactVerify(jws, joseKeys).then(
    () => true,
    () => false,
  );

const base64url = (text: string): string => Buffer.from(text, 'utf8').toString('base64url');

/** Signs without regard to the header. */
function signed(header: object | string, alg: Algorithm, pair: Pair, payload = base64url('{"sub":"a"}')): string {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const input = `${base64url(text)}.${payload}`;
  const key = { key: pair.privateKey, dsaEncoding: 'ieee-p1363' } as const;
  return `${input}.${sign(DIGESTS[alg], Buffer.from(input, 'latin1'), key).toString('base64url')}`;
}

function hmacSigned(header: object, secret: string | Buffer): string {
  const input = `${base64url(JSON.stringify(header))}.${base64url('{"sub":"a"}')}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}

const validToken = signed({ alg: 'RS256', kid: 'r256' }, 'RS256', rsa);
const validEcToken = signed({ alg: 'ES384', kid: 'e384' }, 'ES384', p384);
const [header = '', payload = '', signature = ''] = validToken.split('.');
const spki = { type: 'spki', format: 'pem' } as const;
const unsigned = (alg: string): string => `${base64url(JSON.stringify({ alg, kid: 'r256' }))}.${payload}.`;
const es256 = { alg: 'ES256', kid: 'e256' };
const der = sign('sha256', Buffer.from(`${base64url(JSON.stringify(es256))}.${payload}`), p256.privateKey);

t.test('tokens of each published key are valid for gatecar and for jose', async t => {
  for (const [kid, alg, pair] of PUBLISHED) {
    const token = signed({ alg, kid }, alg, pair);
    t.equal(await verifier.verify(token), 'valid', kid);
    t.equal(await joseAccepts(token), true, kid);
  }
});

const REJECTED: Readonly<Record<string, readonly [jws: string, expected: SignatureCheck]>> = {
  'the signature of another key': [signed({ alg: 'RS256', kid: 'r256' }, 'RS256', unpublished), 'invalid'],
  'another payload': [`${header}.${base64url('{"sub":"b"}')}.${signature}`, 'invalid'],
  'a signature of zeros': [`${base64url(JSON.stringify(es256))}.${payload}.${'A'.repeat(86)}`, 'invalid'],
  'a signature in DER': [`${base64url(JSON.stringify(es256))}.${payload}.${der.toString('base64url')}`, 'invalid'],
  'a signature that is cut': [validToken.slice(0, -2), 'invalid'],
  'a signature with extra characters': [`${validToken}AA`, 'invalid'],
  'an embedded key': [
    signed(
      { alg: 'RS256', kid: 'r256', jwk: unpublished.publicKey.export({ format: 'jwk' }), jku: 'https://evil' },
      'RS256',
      unpublished,
    ),
    'invalid',
  ],
  'alg none without a signature': [unsigned('none'), 'unknown form'],
  'alg none with a signature': [`${unsigned('none')}${signature}`, 'unknown key'],
  'HS256 with the public key in PEM': [
    hmacSigned({ alg: 'HS256', kid: 'r256' }, rsa.publicKey.export(spki)),
    'unknown key',
  ],
  'RS256 in the header, HS256 with the public key': [
    hmacSigned({ alg: 'RS256', kid: 'r256' }, rsa.publicKey.export(spki)),
    'invalid',
  ],
  'RS256 under the name of an EC key': [signed({ alg: 'RS256', kid: 'e256' }, 'RS256', rsa), 'unknown key'],
  'ES256 in the header of an RSA signature': [signed(es256, 'RS256', rsa), 'invalid'],
  'ES256 under the name of an RSA key': [signed({ alg: 'ES256', kid: 'r256' }, 'ES256', p256), 'unknown key'],
  'RS384 with a key for RS256': [signed({ alg: 'RS384', kid: 'r256' }, 'RS384', rsa), 'unknown key'],
  'an unknown kid': [signed({ alg: 'RS256', kid: 'other' }, 'RS256', rsa), 'unknown key'],
  'a signature on another curve': [signed(es256, 'ES384', p384), 'invalid'],
  'a key on another curve than its alg': [signed({ alg: 'ES256', kid: 'wrong-curve' }, 'ES256', p384), 'unknown key'],
  'an RSA key published for ES256': [signed({ alg: 'ES256', kid: 'rsa-as-ec' }, 'RS256', rsa), 'unknown key'],
  'an EC key published for RS256': [signed({ alg: 'RS256', kid: 'ec-as-rsa' }, 'ES256', p256), 'unknown key'],
  'an unknown critical extension': [
    signed({ alg: 'RS256', kid: 'r256', crit: ['exp'], exp: 1 }, 'RS256', rsa),
    'unknown form',
  ],
  'an empty list of critical extensions': [
    signed({ alg: 'RS256', kid: 'r256', crit: [] }, 'RS256', rsa),
    'unknown form',
  ],
  'two segments': [`${header}.${payload}`, 'unknown form'],
  'four segments': [`${validToken}.AA`, 'unknown form'],
  'no header': [`.${payload}.${signature}`, 'unknown form'],
  'a header that is a list': [signed('["RS256"]', 'RS256', rsa), 'unknown form'],
  'a header that is not JSON': [signed('{"alg":"RS256","kid":"r256"', 'RS256', rsa), 'unknown form'],
  'a character that is not base64url': [`${header}.${payload}.!${signature.slice(1)}`, 'unknown form'],
  'a signature of an impossible length': [`${validEcToken}A`, 'unknown form'],
  'a signed payload that is not base64url': [
    signed({ alg: 'RS256', kid: 'r256' }, 'RS256', rsa, '{"sub":"a"}'),
    'unknown form',
  ],
};

t.test('gatecar rejects what jose rejects', async t => {
  for (const [name, [jws, expected]] of Object.entries(REJECTED)) {
    t.equal(await joseAccepts(jws), false, name);
    t.equal(await verifier.verify(jws), expected, name);
  }
});

/** gatecar leaves these to the API server: they cost a review and nothing else. */
const NOT_VERIFIED: Readonly<Record<string, readonly [jws: string, isAcceptedByJose: boolean]>> = {
  'no kid: Kubernetes names the key of each token': [signed({ alg: 'RS256' }, 'RS256', rsa), true],
  'a kid that is not a string: keys are found by their kid alone': [
    signed({ alg: 'RS256', kid: 1 }, 'RS256', rsa),
    false,
  ],
  'a known critical extension: gatecar supports none': [
    signed({ alg: 'RS256', kid: 'r256', crit: ['b64'], b64: true }, 'RS256', rsa),
    true,
  ],
  'an empty payload: a token has claims': [signed({ alg: 'RS256', kid: 'r256' }, 'RS256', rsa, ''), true],
  'a line end after the token': [`${validToken}\n`, true],
  padding: [`${validToken}==`, true],
  'the alphabet of plain base64': [validToken.replaceAll('-', '+').replaceAll('_', '/'), false],
};

t.test('tokens that gatecar does not verify are unknown, not invalid, even if jose accepts them', async t => {
  for (const [name, [jws, isAcceptedByJose]] of Object.entries(NOT_VERIFIED)) {
    t.match(await verifier.verify(jws), /^unknown (form|key)$/, name);
    t.equal(await joseAccepts(jws), isAcceptedByJose, name);
  }
});

function randomHeader(random: Seeded): Record<string, unknown> {
  const [kid, alg] = random.pick(PUBLISHED as [(typeof PUBLISHED)[0]]);
  const header: Record<string, unknown> = { alg, kid };
  if (random.below(4) === 0) header['alg'] = random.pick(['none', 'HS256', 'RS256', 'ES256', 'PS256', 'RS384', '']);
  if (random.below(4) === 0) header['kid'] = random.pick(['r256', 'e256', 'wrong-curve', 'ec-as-rsa', '', 'other', 1]);
  if (random.below(6) === 0) header['crit'] = random.pick([['exp'], [], 'exp', ['b64'], null]);
  if (random.below(6) === 0) header['b64'] = random.below(2) === 0;
  if (random.below(6) === 0) header['typ'] = random.pick(['JWT', 'at+jwt', '']);
  return header;
}

function randomJws(random: Seeded): string {
  const header = randomHeader(random);
  const published =
    PUBLISHED.find(([kid]) => kid === header['kid']) ?? random.pick(PUBLISHED as [(typeof PUBLISHED)[0]]);
  const [, alg, pair] = random.below(8) === 0 ? random.pick(PUBLISHED as [(typeof PUBLISHED)[0]]) : published;
  const jws = signed(header, alg, pair);
  if (random.below(2) === 0) return jws;
  const index = random.below(jws.length + 1);
  const noise = random.text(['A', 'B', '-', '_', '+', '/', '=', '.', ' ', '\n', '\0', 'é', '%'], 3);
  return jws.slice(0, index) + noise + jws.slice(index + random.below(3));
}

t.test('random tokens: gatecar accepts none that jose rejects, and marks none invalid that jose accepts', async t => {
  const random = seeded(SEED);
  const counts = { valid: 0, rejected: 0, notVerified: 0 };
  for (let i = 0; i < CASES; i += 1) {
    const jws = randomJws(random);
    const found = await verifier.verify(jws);
    const accepts = await joseAccepts(jws);
    if (found === 'valid') counts.valid += 1;
    else if (accepts) counts.notVerified += 1;
    else counts.rejected += 1;
    const agrees = accepts ? found !== 'invalid' : found !== 'valid';
    if (!agrees) {
      t.fail(`case ${i} of seed ${SEED} (GATECAR_FUZZ_SEED): ${found}, jose ${accepts}: ${JSON.stringify(jws)}`);
      break;
    }
  }
  t.comment(`seed ${SEED}: ${JSON.stringify(counts)}`);
  t.ok(counts.valid > CASES / 10 && counts.rejected > CASES / 10, JSON.stringify(counts));
  t.ok(counts.notVerified < CASES / 10, JSON.stringify(counts));
});
