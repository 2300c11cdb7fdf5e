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
const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 });

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
const ours = createJwsVerifier(jwks);
const josesKey = createLocalJWKSet(jwks as Parameters<typeof createLocalJWKSet>[0]);
const joseAccepts = (jws: string): Promise<boolean> =>
  compactVerify(jws, josesKey).then(
    () => true,
    () => false,
  );

const base64url = (text: string): string => Buffer.from(text, 'utf8').toString('base64url');

/** Signs whatever the header says. */
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

const good = signed({ alg: 'RS256', kid: 'r256' }, 'RS256', rsa);
const goodEc = signed({ alg: 'ES384', kid: 'e384' }, 'ES384', p384);
const [header = '', payload = '', signature = ''] = good.split('.');
const spki = { type: 'spki', format: 'pem' } as const;
const unsigned = (alg: string): string => `${base64url(JSON.stringify({ alg, kid: 'r256' }))}.${payload}.`;
const es256 = { alg: 'ES256', kid: 'e256' };
const der = sign('sha256', Buffer.from(`${base64url(JSON.stringify(es256))}.${payload}`), p256.privateKey);

t.test('tokens of each published key are good to gatecar and to jose', async t => {
  for (const [kid, alg, pair] of PUBLISHED) {
    const token = signed({ alg, kid }, alg, pair);
    t.equal(await ours.verify(token), 'good', kid);
    t.equal(await joseAccepts(token), true, kid);
  }
});

const REJECTED: Readonly<Record<string, readonly [jws: string, expected: SignatureCheck]>> = {
  'the signature of another key': [signed({ alg: 'RS256', kid: 'r256' }, 'RS256', stranger), 'bad'],
  'another payload': [`${header}.${base64url('{"sub":"b"}')}.${signature}`, 'bad'],
  'a signature of zeros': [`${base64url(JSON.stringify(es256))}.${payload}.${'A'.repeat(86)}`, 'bad'],
  'a signature in DER': [`${base64url(JSON.stringify(es256))}.${payload}.${der.toString('base64url')}`, 'bad'],
  'a signature that is cut': [good.slice(0, -2), 'bad'],
  'a signature that goes on': [`${good}AA`, 'bad'],
  'an embedded key': [
    signed(
      { alg: 'RS256', kid: 'r256', jwk: stranger.publicKey.export({ format: 'jwk' }), jku: 'https://evil' },
      ...(['RS256', stranger] as const),
    ),
    'bad',
  ],
  'alg none without a signature': [unsigned('none'), 'unknown form'],
  'alg none with a signature': [`${unsigned('none')}${signature}`, 'unknown key'],
  'HS256 with the public key in PEM': [
    hmacSigned({ alg: 'HS256', kid: 'r256' }, rsa.publicKey.export(spki)),
    'unknown key',
  ],
  'RS256 in the header, HS256 with the public key': [
    hmacSigned({ alg: 'RS256', kid: 'r256' }, rsa.publicKey.export(spki)),
    'bad',
  ],
  'RS256 under the name of an EC key': [signed({ alg: 'RS256', kid: 'e256' }, 'RS256', rsa), 'unknown key'],
  'ES256 in the header of an RSA signature': [signed(es256, 'RS256', rsa), 'bad'],
  'ES256 under the name of an RSA key': [signed({ alg: 'ES256', kid: 'r256' }, 'ES256', p256), 'unknown key'],
  'RS384 with a key for RS256': [signed({ alg: 'RS384', kid: 'r256' }, 'RS384', rsa), 'unknown key'],
  'an unknown kid': [signed({ alg: 'RS256', kid: 'other' }, 'RS256', rsa), 'unknown key'],
  'a signature on another curve': [signed(es256, 'ES384', p384), 'bad'],
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
  'four segments': [`${good}.AA`, 'unknown form'],
  'no header': [`.${payload}.${signature}`, 'unknown form'],
  'a header that is a list': [signed('["RS256"]', 'RS256', rsa), 'unknown form'],
  'a header that is no JSON': [signed('{"alg":"RS256","kid":"r256"', 'RS256', rsa), 'unknown form'],
  'a character that is not base64url': [`${header}.${payload}.!${signature.slice(1)}`, 'unknown form'],
  'a signature of an impossible length': [`${goodEc}A`, 'unknown form'],
  'a signed payload that is not base64url': [
    signed({ alg: 'RS256', kid: 'r256' }, 'RS256', rsa, '{"sub":"a"}'),
    'unknown form',
  ],
};

t.test('what jose rejects is not good to gatecar', async t => {
  for (const [name, [jws, expected]] of Object.entries(REJECTED)) {
    t.equal(await joseAccepts(jws), false, name);
    t.equal(await ours.verify(jws), expected, name);
  }
});

/** gatecar leaves these to the API server, so nothing is lost but time. */
const NOT_VERIFIED: Readonly<Record<string, string>> = {
  'no kid: Kubernetes names the key of each token': signed({ alg: 'RS256' }, 'RS256', rsa),
  'a kid that is no text: keys are found by their kid alone': signed({ alg: 'RS256', kid: 1 }, 'RS256', rsa),
  'a known critical extension: gatecar knows none': signed(
    { alg: 'RS256', kid: 'r256', crit: ['b64'], b64: true },
    ...(['RS256', rsa] as const),
  ),
  'an empty payload: a token has claims': signed({ alg: 'RS256', kid: 'r256' }, 'RS256', rsa, ''),
  'a line end after the token': `${good}\n`,
  padding: `${good}==`,
  'the alphabet of plain base64': good.replaceAll('-', '+').replaceAll('_', '/'),
};

t.test('what gatecar does not verify, though jose could, is unknown and not bad', async t => {
  const unlike: string[] = [];
  for (const [name, jws] of Object.entries(NOT_VERIFIED)) {
    const found = await ours.verify(jws);
    t.match(found, /^unknown (form|key)$/, name);
    if (await joseAccepts(jws)) unlike.push(name);
  }
  t.comment(`jose accepts: ${unlike.join(', ')}`);
});

function randomHeader(random: Seeded): Record<string, unknown> {
  const [kid, alg] = random.pick(PUBLISHED as [(typeof PUBLISHED)[0]]);
  const made: Record<string, unknown> = { alg, kid };
  if (random.below(4) === 0) made['alg'] = random.pick(['none', 'HS256', 'RS256', 'ES256', 'PS256', 'RS384', '']);
  if (random.below(4) === 0) made['kid'] = random.pick(['r256', 'e256', 'wrong-curve', 'ec-as-rsa', '', 'other', 1]);
  if (random.below(6) === 0) made['crit'] = random.pick([['exp'], [], 'exp', ['b64'], null]);
  if (random.below(6) === 0) made['b64'] = random.below(2) === 0;
  if (random.below(6) === 0) made['typ'] = random.pick(['JWT', 'at+jwt', '']);
  return made;
}

function randomJws(random: Seeded): string {
  const made = randomHeader(random);
  const published = PUBLISHED.find(([kid]) => kid === made['kid']) ?? random.pick(PUBLISHED as [(typeof PUBLISHED)[0]]);
  const [, alg, pair] = random.below(8) === 0 ? random.pick(PUBLISHED as [(typeof PUBLISHED)[0]]) : published;
  const jws = signed(made, alg, pair);
  if (random.below(2) === 0) return jws;
  const at = random.below(jws.length + 1);
  const noise = random.text(['A', 'B', '-', '_', '+', '/', '=', '.', ' ', '\n', '\0', 'é', '%'], 3);
  return jws.slice(0, at) + noise + jws.slice(at + random.below(3));
}

t.test('random tokens: whatever jose rejects is not good, and whatever it accepts is good or not verified', async t => {
  const random = seeded(SEED);
  const counts = { good: 0, rejected: 0, notVerified: 0 };
  for (let i = 0; i < CASES; i += 1) {
    const jws = randomJws(random);
    const found = await ours.verify(jws);
    const accepts = await joseAccepts(jws);
    if (found === 'good') counts.good += 1;
    else if (accepts) counts.notVerified += 1;
    else counts.rejected += 1;
    const isFine = accepts ? found !== 'bad' : found !== 'good';
    if (!isFine) {
      t.fail(`case ${i} of seed ${SEED} (GATECAR_FUZZ_SEED): ${found}, jose ${accepts}: ${JSON.stringify(jws)}`);
      break;
    }
  }
  t.comment(`seed ${SEED}: ${JSON.stringify(counts)}`);
  t.ok(counts.good > CASES / 10 && counts.rejected > CASES / 10, JSON.stringify(counts));
  t.ok(counts.notVerified < CASES / 10, JSON.stringify(counts));
});
