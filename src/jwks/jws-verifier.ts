import { createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { decodeJsonObject } from '../credential/base64url-json.ts';
import { MAX_KEYS_OF_SAME_ID, MAX_QUICK_RSA_BITS, MAX_SLOW_CHECKS } from '../limits/constants.ts';

/** The result of a signature check. */
export type SignatureCheck =
  /** One of the keys made the signature. */
  | 'valid'
  /** The token names one of the keys, but that key did not make the signature. */
  | 'invalid'
  /** The token names a key that is not in the set, or an algorithm other than that key's. */
  | 'unknown key'
  /** A form that gatecar does not verify: not a JWS, no `kid`, or a required extension. */
  | 'unknown form';

/** Public keys by their `kid`. */
export interface JwsVerifier {
  /** Whether there is a key to verify with. */
  readonly usable: boolean;
  /**
   * Verifies a signature. @returns a promise for a slow key, which is checked on the thread pool.
   */
  verify(jws: string): SignatureCheck | Promise<SignatureCheck>;
}

interface SigningKey {
  readonly algorithm: string;
  readonly digest: string;
  readonly key: KeyObject | { readonly key: KeyObject; readonly dsaEncoding: 'ieee-p1363' };
  /**
   * Whether a check takes a millisecond or more, as with larger curves and unusually long RSA keys.
   */
  readonly isSlow: boolean;
}

interface Algorithm {
  readonly digest: string;
  /** The curve's name in OpenSSL; `undefined` for RSA. */
  readonly curve: string | undefined;
}

/** The algorithms with which Kubernetes signs ServiceAccount tokens (RFC 7518 §3.1). */
const ALGORITHMS: ReadonlyMap<unknown, Algorithm> = new Map([
  ['RS256', { digest: 'sha256', curve: undefined }],
  ['RS384', { digest: 'sha384', curve: undefined }],
  ['RS512', { digest: 'sha512', curve: undefined }],
  ['ES256', { digest: 'sha256', curve: 'prime256v1' }],
  ['ES384', { digest: 'sha384', curve: 'secp384r1' }],
  ['ES512', { digest: 'sha512', curve: 'secp521r1' }],
]);

/**
 * The smallest RSA modulus, in bits (RFC 7518 §3.3). A smaller key is weak or malformed, and would
 * make every signature `invalid`.
 */
const MIN_RSA_BITS = 2048;

const QUICK_CURVE = 'prime256v1';

const NONE: readonly SigningKey[] = [];

const BASE64URL = /^[\w-]+$/;

/**
 * Reads a JWK Set (RFC 7517 §5). A key of an unknown type, or without `kid` or `alg`, is ignored:
 * its signatures cannot be checked. A key is parsed when a token names it for the first time,
 * because parsing a large set would block the event loop.
 *
 * RSA and P-256 signatures are verified with a synchronous call to OpenSSL. Web Crypto needs
 * several times the CPU time, and during a flood of invalid tokens all clients would pay for that.
 * P-384 and P-521 take long enough to delay other requests, so they are verified on the thread
 * pool.
 *
 * @throws if the document is not a JWK Set.
 */
export function createJwsVerifier(jwks: Readonly<Record<string, unknown>>): JwsVerifier {
  if (!Array.isArray(jwks['keys'])) throw new TypeError('no JWK Set');
  // Kubernetes gives each key a unique `kid`. An external signer may use one for several keys.
  const published = new Map<unknown, Jwk[]>();
  for (const jwk of jwks['keys'] as Jwk[]) {
    if (!isForSignatures(jwk)) continue;
    const sameId = published.get(jwk['kid']);
    if (sameId === undefined) published.set(jwk['kid'], [jwk]);
    else sameId.push(jwk);
  }
  const parsed = new Map<unknown, readonly SigningKey[]>();
  const keysFor = (kid: unknown): readonly SigningKey[] => {
    const cached = parsed.get(kid);
    if (cached !== undefined) return cached;
    const sameId = published.get(kid);
    if (sameId === undefined || sameId.length > MAX_KEYS_OF_SAME_ID) return NONE;
    const keys = sameId.map(signingKey).filter(key => key !== undefined);
    parsed.set(kid, keys);
    published.delete(kid);
    return keys;
  };
  const usable = [...published.keys()].some(kid => keysFor(kid).length > 0);
  let slowChecks = 0;
  const checkSlowly = async (
    candidates: readonly SigningKey[],
    signed: Buffer,
    signature: Buffer,
  ): Promise<SignatureCheck> => {
    if (slowChecks >= MAX_SLOW_CHECKS) return 'unknown form';
    slowChecks += 1;
    try {
      const made = await Promise.all(candidates.map(key => verifyAsync(key.digest, signed, key.key, signature)));
      return made.includes(true) ? 'valid' : 'invalid';
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
      const candidates = keysFor(header['kid']).filter(({ algorithm }) => algorithm === header['alg']);
      if (candidates.length === 0) return 'unknown key';
      if (candidates.some(({ isSlow }) => isSlow)) return checkSlowly(candidates, signed, signature);
      return candidates.some(({ digest, key }) => verify(digest, signed, key, signature)) ? 'valid' : 'invalid';
    },
  };
}

const verifyAsync = promisify(verify);

/**
 * Returns the key in the form that `verify` takes. A JWS contains r and s of an EC signature side
 * by side (RFC 7518 §3.4).
 *
 * An RSA key is passed without an options object. For an options object, Node throws and catches
 * two errors before it finds the key, which costs CPU time.
 */
function toVerifyKey(key: KeyObject): SigningKey['key'] {
  return key.asymmetricKeyType === 'ec' ? { key, dsaEncoding: 'ieee-p1363' } : key;
}

/** A member of a JWK Set, not validated. */
type Jwk = Readonly<Record<string, unknown>>;

/** Whether a JWK declares itself a public signature key (RFC 7517 §4) of a supported algorithm. */
function isForSignatures(jwk: Jwk): boolean {
  const { alg, kid, use = 'sig', key_ops: operations = ['verify'], d } = Object(jwk) as Jwk;
  if (!ALGORITHMS.has(alg) || typeof kid !== 'string' || use !== 'sig' || d !== undefined) return false;
  return Array.isArray(operations) && operations.includes('verify');
}

/**
 * Parses a JWK into a key for Node's `verify`.
 *
 * @returns `undefined` if it is not a public key of its declared algorithm.
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
  /** The bytes that were signed. */
  readonly signed: Buffer;
  readonly signature: Buffer;
}

/**
 * Parses a compact JWS (RFC 7515 §7.1).
 *
 * @returns `undefined` if the text is not a compact JWS, has no `kid`, or requires an extension
 *   (`crit`, §4.1.11): gatecar supports none.
 */
function parseJws(jws: string): Jws | undefined {
  const [protectedHeader = '', payload = '', signature = '', more] = jws.split('.');
  if (more !== undefined || ![protectedHeader, payload, signature].every(isBase64url)) return undefined;
  const header = decodeJsonObject(protectedHeader);
  if (header?.['kid'] === undefined || Object.hasOwn(header, 'crit')) return undefined;
  const signed = Buffer.from(`${protectedHeader}.${payload}`, 'latin1');
  return { header, signed, signature: Buffer.from(signature, 'base64url') };
}

/**
 * Checks the encoding, because Node decodes any text. Node would truncate a text of an impossible
 * length (4n + 1).
 */
function isBase64url(text: string): boolean {
  return BASE64URL.test(text) && text.length % 4 !== 1;
}
