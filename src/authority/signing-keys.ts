import { KeyObject, verify } from 'node:crypto';
import { decodeProtectedHeader, importJWK, type JWK } from 'jose';

/** What a signature check finds. */
export type SignatureCheck =
  /** One of the keys made it. */
  | 'good'
  /** The token names one of the keys, and that key did not make it. */
  | 'bad'
  /** The token names a key that is not among them. */
  | 'unknown key'
  /** A form that we do not read: no JWS, no key named, another algorithm than the key's. */
  | 'unknown form';

/** Public keys by their `kid`. */
export interface SigningKeys {
  /** How many names there are keys for. */
  readonly size: number;
  check(jws: string): SignatureCheck;
}

interface SigningKey {
  readonly algorithm: string;
  readonly digest: string;
  readonly key: KeyObject;
}

/** RFC 7518 §3.1: those that Kubernetes signs ServiceAccount tokens with. */
const DIGESTS: ReadonlyMap<unknown, string> = new Map([
  ['RS256', 'sha256'],
  ['RS384', 'sha384'],
  ['RS512', 'sha512'],
  ['ES256', 'sha256'],
  ['ES384', 'sha384'],
  ['ES512', 'sha512'],
]);

/** RFC 7518 §3.3. A smaller number is weak or garbage, and would make every signature a bad one. */
const MIN_RSA_BITS = 2048;

const BASE64URL = /^[\w-]+$/;

/**
 * Reads a JWK Set (RFC 7517 §5). A key of a kind that is not known, or without `kid` or `alg`, is left out: what it signs
 * cannot be judged.
 *
 * Signatures are verified by one synchronous call of OpenSSL, 20 to 80 µs: a Web Crypto verification takes three times the processor
 * time for the way there and back, which is what a flood of junk would cost everybody else.
 *
 * @throws where the document is no JWK Set.
 */
export async function signingKeys(jwks: Readonly<Record<string, unknown>>): Promise<SigningKeys> {
  if (!Array.isArray(jwks['keys'])) throw new TypeError('no JWK Set');
  // A name is a key's own where Kubernetes gave it; an external signer may give one to several.
  const keys = new Map<unknown, SigningKey[]>();
  for (const jwk of jwks['keys'] as JWK[]) {
    const key = await signingKey(jwk);
    if (key !== undefined) keys.set(jwk.kid, [...(keys.get(jwk.kid) ?? []), key]);
  }
  return {
    size: keys.size,
    check(jws) {
      const end = jws.lastIndexOf('.');
      const signature = jws.slice(end + 1);
      const header = protectedHeader(jws);
      if (header?.kid === undefined || !BASE64URL.test(signature)) return 'unknown form';
      const named = keys.get(header.kid);
      if (named === undefined) return 'unknown key';
      const able = named.filter(({ algorithm }) => algorithm === header.alg);
      if (able.length === 0) return 'unknown form';
      const signed = Buffer.from(jws.slice(0, end), 'latin1');
      const bytes = Buffer.from(signature, 'base64url');
      return able.some(key => made(key, signed, bytes)) ? 'good' : 'bad';
    },
  };
}

function made({ digest, key }: SigningKey, signed: Buffer, signature: Buffer): boolean {
  // JWS has r and s side by side (RFC 7518 §3.4); RSA ignores it.
  return verify(digest, signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

async function signingKey(jwk: JWK): Promise<SigningKey | undefined> {
  const digest = DIGESTS.get(jwk?.alg);
  if (digest === undefined || jwk.alg === undefined || typeof jwk.kid !== 'string') return undefined;
  try {
    const imported = await importJWK(jwk, jwk.alg);
    if (imported instanceof Uint8Array || imported.type !== 'public') return undefined;
    const key = KeyObject.from(imported as Parameters<typeof KeyObject.from>[0]);
    const bits = key.asymmetricKeyDetails?.modulusLength;
    return bits !== undefined && bits < MIN_RSA_BITS ? undefined : { algorithm: jwk.alg, digest, key };
  } catch {
    return undefined;
  }
}

function protectedHeader(jws: string) {
  try {
    return decodeProtectedHeader(jws);
  } catch {
    return undefined;
  }
}
