import { createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { promisify } from 'node:util';

/** What a signature check finds. */
export type SignatureCheck =
  /** One of the keys made it. */
  | 'good'
  /** The token names one of the keys, and that key did not make it. */
  | 'bad'
  /** The token names a key that is not among them, or another algorithm than that key's. */
  | 'unknown key'
  /** A form that gatecar does not verify: not a JWS, no key named, or an extension demanded. */
  | 'unknown form';

/** Public keys by their `kid`. */
export interface JwsVerifier {
  /** Whether there is a key to verify with. */
  readonly usable: boolean;
  /** A promise where the key is one that takes long: that is done beside the event loop. */
  verify(jws: string): SignatureCheck | Promise<SignatureCheck>;
}

interface SigningKey {
  readonly algorithm: string;
  readonly digest: string;
  readonly key: KeyObject | { readonly key: KeyObject; readonly dsaEncoding: 'ieee-p1363' };
  /** Whether a check takes a millisecond or more: the larger curves do, and RSA far beyond what is usual. */
  readonly isSlow: boolean;
}

interface Algorithm {
  readonly digest: string;
  /** As OpenSSL names it; `undefined` where the key is one of RSA. */
  readonly curve: string | undefined;
}

/** RFC 7518 §3.1: those that Kubernetes signs ServiceAccount tokens with. */
const ALGORITHMS: ReadonlyMap<unknown, Algorithm> = new Map([
  ['RS256', { digest: 'sha256', curve: undefined }],
  ['RS384', { digest: 'sha384', curve: undefined }],
  ['RS512', { digest: 'sha512', curve: undefined }],
  ['ES256', { digest: 'sha256', curve: 'prime256v1' }],
  ['ES384', { digest: 'sha384', curve: 'secp384r1' }],
  ['ES512', { digest: 'sha512', curve: 'secp521r1' }],
]);

/** RFC 7518 §3.3. A smaller number is weak or garbage, and would make every signature a bad one. */
const MIN_RSA_BITS = 2048;

const MAX_QUICK_RSA_BITS = 4096;
const QUICK_CURVE = 'prime256v1';

/**
 * How many of the slow checks may be under way at once. They share a few threads with reading files and finding hosts; what
 * comes on top is as if its form were not known.
 */
const MAX_SLOW_CHECKS = 64;

/** How many keys may have one `kid`. Further ones would have one token hold the event loop, so then none is used. */
const MAX_SAME_ID = 16;

const NONE: readonly SigningKey[] = [];

const BASE64URL = /^[\w-]+$/;

/**
 * Reads a JWK Set (RFC 7517 §5). A key of a kind that is not known, or without `kid` or `alg`, is left out: what it signs
 * cannot be judged. A key is parsed when a token names it for the first time: to parse a thousand takes 50 ms.
 *
 * Signatures of RSA and P-256 are verified by one synchronous call of OpenSSL, 20 to 150 µs: a Web Crypto verification takes three times the processor
 * time for the way there and back, which is what a flood of junk would cost everybody else. P-384 and P-521 take one to two
 * milliseconds, for which nobody else is to wait.
 *
 * @throws where the document is no JWK Set.
 */
export function createJwsVerifier(jwks: Readonly<Record<string, unknown>>): JwsVerifier {
  if (!Array.isArray(jwks['keys'])) throw new TypeError('no JWK Set');
  // A name is a key's own where Kubernetes gave it; an external signer may give one to several.
  const published = new Map<unknown, Jwk[]>();
  for (const jwk of jwks['keys'] as Jwk[]) {
    if (!isForSignatures(jwk)) continue;
    const sameId = published.get(jwk['kid']);
    if (sameId === undefined) published.set(jwk['kid'], [jwk]);
    else sameId.push(jwk);
  }
  const parsed = new Map<unknown, readonly SigningKey[]>();
  const named = (kid: unknown): readonly SigningKey[] => {
    const known = parsed.get(kid);
    if (known !== undefined) return known;
    const sameId = published.get(kid);
    if (sameId === undefined || sameId.length > MAX_SAME_ID) return NONE;
    const keys = sameId.map(signingKey).filter(key => key !== undefined);
    parsed.set(kid, keys);
    published.delete(kid);
    return keys;
  };
  const usable = [...published.keys()].some(kid => named(kid).length > 0);
  let slowChecks = 0;
  const checkSlowly = async (
    able: readonly SigningKey[],
    signed: Buffer,
    signature: Buffer,
  ): Promise<SignatureCheck> => {
    if (slowChecks >= MAX_SLOW_CHECKS) return 'unknown form';
    slowChecks += 1;
    try {
      const made = await Promise.all(able.map(key => verifyAsync(key.digest, signed, key.key, signature)));
      return made.includes(true) ? 'good' : 'bad';
    } finally {
      slowChecks -= 1;
    }
  };
  return {
    usable,
    verify(jws) {
      const parsed = parseJws(jws);
      if (parsed === undefined) return 'unknown form';
      const { header, signed, signature } = parsed;
      const able = named(header['kid']).filter(({ algorithm }) => algorithm === header['alg']);
      if (able.length === 0) return 'unknown key';
      if (able.some(({ isSlow }) => isSlow)) return checkSlowly(able, signed, signature);
      return able.some(({ digest, key }) => verify(digest, signed, key, signature)) ? 'good' : 'bad';
    },
  };
}

const verifyAsync = promisify(verify);

/**
 * JWS has r and s of a curve side by side (RFC 7518 §3.4). What is no key itself has Node throw and catch two errors before
 * it finds the key in it, which costs two thirds of what the check of an RSA signature does.
 */
function toVerifyKey(key: KeyObject): SigningKey['key'] {
  return key.asymmetricKeyType === 'ec' ? { key, dsaEncoding: 'ieee-p1363' } : key;
}

/** A member of a JWK Set: whatever somebody wrote there. */
type Jwk = Readonly<Record<string, unknown>>;

/** Whether it is, by its own words, a public key for signatures (RFC 7517 §4) of a known algorithm. */
function isForSignatures(jwk: Jwk): boolean {
  const { alg, kid, use = 'sig', key_ops: operations = ['verify'], d } = Object(jwk) as Jwk;
  if (!ALGORITHMS.has(alg) || typeof kid !== 'string' || use !== 'sig' || d !== undefined) return false;
  return Array.isArray(operations) && operations.includes('verify');
}

/**
 * Parsed by Node, which also verifies.
 *
 * @returns `undefined` for what is no public key of its own algorithm.
 */
function signingKey(jwk: Jwk): SigningKey | undefined {
  const { alg } = jwk;
  const algorithm = ALGORITHMS.get(alg) as Algorithm;
  const key = publicKey(jwk);
  const { modulusLength: bits = 0, namedCurve: curve } = key?.asymmetricKeyDetails ?? {};
  if (key === undefined || curve !== algorithm.curve) return undefined;
  if (curve === undefined && bits < MIN_RSA_BITS) return undefined;
  const isSlow = curve === undefined ? bits > MAX_QUICK_RSA_BITS : curve !== QUICK_CURVE;
  return { algorithm: alg as string, digest: algorithm.digest, key: toVerifyKey(key), isSlow };
}

function publicKey(jwk: Jwk): KeyObject | undefined {
  try {
    return createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
  } catch {
    return undefined;
  }
}

interface Jws {
  readonly header: Readonly<Record<string, unknown>>;
  /** What the signature was made of. */
  readonly signed: Buffer;
  readonly signature: Buffer;
}

/**
 * @returns `undefined` if this is not a compact JWS (RFC 7515 §7.1), if it names no key, or if it demands an extension
 *   (`crit`, §4.1.11): gatecar knows none.
 */
function parseJws(jws: string): Jws | undefined {
  const [protectedHeader = '', payload = '', signature = '', more] = jws.split('.');
  if (more !== undefined || ![protectedHeader, payload, signature].every(isBase64url)) return undefined;
  const header = parseObject(Buffer.from(protectedHeader, 'base64url').toString('utf8'));
  if (header?.['kid'] === undefined || Object.hasOwn(header, 'crit')) return undefined;
  const signed = Buffer.from(`${protectedHeader}.${payload}`, 'latin1');
  return { header, signed, signature: Buffer.from(signature, 'base64url') };
}

/** Node decodes any text. A length that no bytes have would be cut. */
function isBase64url(text: string): boolean {
  return BASE64URL.test(text) && text.length % 4 !== 1;
}

/** @returns `undefined` if the text is not a JSON object. */
function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
