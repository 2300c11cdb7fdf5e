import { KeyObject, verify } from 'node:crypto';
import { promisify } from 'node:util';
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
  /** A promise where the key is one that takes long: that is done beside the event loop. */
  check(jws: string): SignatureCheck | Promise<SignatureCheck>;
}

interface SigningKey {
  readonly algorithm: string;
  readonly digest: string;
  readonly key: KeyObject | { readonly key: KeyObject; readonly dsaEncoding: 'ieee-p1363' };
  /** Whether a check takes a millisecond or more: the larger curves do, and RSA far beyond what is usual. */
  readonly isSlow: boolean;
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

const MAX_QUICK_RSA_BITS = 4096;
const QUICK_CURVE = 'prime256v1';

/**
 * How many of the slow checks may be under way at once. They share a few threads with reading files and finding hosts; what
 * comes on top is as if its form were not known.
 */
const MAX_SLOW_CHECKS = 64;

const BASE64URL = /^[\w-]+$/;

/**
 * Reads a JWK Set (RFC 7517 §5). A key of a kind that is not known, or without `kid` or `alg`, is left out: what it signs
 * cannot be judged.
 *
 * Signatures of RSA and P-256 are verified by one synchronous call of OpenSSL, 20 to 150 µs: a Web Crypto verification takes three times the processor
 * time for the way there and back, which is what a flood of junk would cost everybody else. P-384 and P-521 take one to two
 * milliseconds, for which nobody else is to wait.
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
  const headerOf = lastHeader();
  let slowChecks = 0;
  const checkSlowly = async (able: readonly SigningKey[], signed: Buffer, bytes: Buffer): Promise<SignatureCheck> => {
    if (slowChecks >= MAX_SLOW_CHECKS) return 'unknown form';
    slowChecks += 1;
    try {
      const made = await Promise.all(able.map(key => verifyBeside(key.digest, signed, key.key, bytes)));
      return made.includes(true) ? 'good' : 'bad';
    } finally {
      slowChecks -= 1;
    }
  };
  return {
    size: keys.size,
    check(jws) {
      const end = jws.lastIndexOf('.');
      const signature = jws.slice(end + 1);
      const header = headerOf(jws);
      if (header?.kid === undefined || !BASE64URL.test(signature)) return 'unknown form';
      const named = keys.get(header.kid);
      if (named === undefined) return 'unknown key';
      const able = named.filter(({ algorithm }) => algorithm === header.alg);
      if (able.length === 0) return 'unknown form';
      const signed = Buffer.from(jws.slice(0, end), 'latin1');
      const bytes = Buffer.from(signature, 'base64url');
      if (able.some(({ isSlow }) => isSlow)) return checkSlowly(able, signed, bytes);
      return able.some(({ digest, key }) => verify(digest, signed, key, bytes)) ? 'good' : 'bad';
    },
  };
}

const verifyBeside = promisify(verify);

/**
 * JWS has r and s of a curve side by side (RFC 7518 §3.4). What is no key itself has Node throw and catch two errors before
 * it finds the key in it, which costs two thirds of what the check of an RSA signature does.
 */
function shown(key: KeyObject): SigningKey['key'] {
  return key.asymmetricKeyType === 'ec' ? { key, dsaEncoding: 'ieee-p1363' } : key;
}

async function signingKey(jwk: JWK): Promise<SigningKey | undefined> {
  const digest = DIGESTS.get(jwk?.alg);
  if (digest === undefined || jwk.alg === undefined || typeof jwk.kid !== 'string') return undefined;
  try {
    const imported = await importJWK(jwk, jwk.alg);
    if (imported instanceof Uint8Array || imported.type !== 'public') return undefined;
    const key = KeyObject.from(imported as Parameters<typeof KeyObject.from>[0]);
    const details = key.asymmetricKeyDetails;
    const bits = details?.modulusLength;
    if (bits !== undefined && bits < MIN_RSA_BITS) return undefined;
    const isSlow = bits === undefined ? details?.namedCurve !== QUICK_CURVE : bits > MAX_QUICK_RSA_BITS;
    return { algorithm: jwk.alg, digest, key: shown(key), isSlow };
  } catch {
    return undefined;
  }
}

/** Reads the protected header of a JWS. All that one key has signed begin alike, so the last one that could be read is kept. */
function lastHeader() {
  let start: string | undefined;
  let header: ReturnType<typeof protectedHeader>;
  return (jws: string) => {
    const isOfThree = () => jws.indexOf('.', start?.length) === jws.lastIndexOf('.');
    if (start !== undefined && jws.startsWith(start) && isOfThree()) return header;
    const read = protectedHeader(jws);
    if (read === undefined) return undefined;
    // A copy: a part of a string holds on to all of it, and that is a token.
    start = Buffer.from(jws.slice(0, jws.indexOf('.') + 1), 'latin1').toString('latin1');
    header = read;
    return header;
  };
}

function protectedHeader(jws: string) {
  try {
    return decodeProtectedHeader(jws);
  } catch {
    return undefined;
  }
}
