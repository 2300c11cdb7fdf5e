import { createHash, generateKeyPairSync, type KeyObject, randomUUID, sign, verify } from 'node:crypto';
import { decodeJsonObject } from '../credential/base64url-json.ts';

/** A ServiceAccount, and the pod and node that the token is bound to, if any. */
export interface Subject {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod?: string;
  readonly node?: string;
}

export interface TokenRequest extends Subject {
  readonly audiences: readonly string[];
  /** Seconds from now. A negative number makes an expired token. */
  readonly expiresInSeconds?: number;
  readonly notBeforeSeconds?: number;
}

/** The claims of a bound ServiceAccount token, as the API server signs them. */
export interface ServiceAccountClaims {
  readonly iss: string;
  readonly sub: string;
  readonly aud: readonly string[];
  readonly exp: number;
  readonly nbf: number;
  readonly jti: string;
  readonly 'kubernetes.io': {
    readonly namespace: string;
    readonly serviceaccount: { readonly name: string; readonly uid: string };
    readonly pod?: { readonly name: string; readonly uid: string };
    readonly node?: { readonly name: string; readonly uid: string };
  };
}

export const ISSUER = 'https://kubernetes.default.svc';

const FOREIGN = { kind: 'not a token of this issuer' } as const;

const DEFAULT_LIFETIME_SECONDS = 3600;

/**
 * Base64url as the API server's decoder accepts it. Padding and other characters are errors there,
 * but Node's decoder ignores them.
 */
const RAW_BASE64URL = /^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?$/;

/**
 * The result of a signature check. The API server has a separate error text for each kind of
 * rejection.
 */
export type Verification =
  | { readonly kind: 'ours'; readonly claims: ServiceAccountClaims }
  | { readonly kind: 'not a token of this issuer' | 'unknown key' | 'wrong signature' };

/**
 * Issues real RS256 ServiceAccount tokens (RFC 7519) with its own key pair, as the API server's
 * TokenRequest does.
 */
export interface TokenIssuer {
  issue(request: TokenRequest): string;
  /** Checks the issuer and the signature, but no other claims. */
  verify(token: string): Verification;
  /** The public key as the API server publishes it (RFC 7517). */
  readonly jwks: { readonly keys: readonly Readonly<Record<string, unknown>>[] };
  /** Returns a UID that is stable for each object during the issuer's lifetime. */
  uidOf(kind: string, ...names: string[]): string;
}

/** Creates an issuer with a new key pair. `now` returns milliseconds since the epoch. */
export function tokenIssuer(now: () => number = Date.now): TokenIssuer {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const kid = keyId(publicKey);
  const salt = randomUUID();
  const uidOf = (kind: string, ...names: string[]) =>
    toUuid(
      createHash('sha256')
        .update([salt, kind, ...names].join('\n'))
        .digest('hex'),
    );

  return {
    uidOf,
    jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid }] },
    issue(request) {
      const header = encode({ alg: 'RS256', kid });
      const signed = `${header}.${encode(claimsFor(request, Math.floor(now() / 1000), uidOf))}`;
      return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
    },
    verify(token) {
      const [header, payload, signature, ...rest] = token.split('.');
      if (header === undefined || payload === undefined || signature === undefined || rest.length > 0) return FOREIGN;
      const claims = (decodeJsonObject(payload) ?? {}) as unknown as ServiceAccountClaims;
      if (claims.iss !== ISSUER || !RAW_BASE64URL.test(signature)) return FOREIGN;
      const { alg, kid: usedKey } = (decodeJsonObject(header) ?? {}) as { alg?: unknown; kid?: unknown };
      if (usedKey !== undefined && usedKey !== kid) return { kind: 'unknown key' };
      const signed = Buffer.from(`${header}.${payload}`);
      const ours = alg === 'RS256' && verify('sha256', signed, publicKey, Buffer.from(signature, 'base64url'));
      return ours ? { kind: 'ours', claims } : { kind: 'wrong signature' };
    },
  };
}

function claimsFor(request: TokenRequest, seconds: number, uidOf: TokenIssuer['uidOf']): ServiceAccountClaims {
  const { namespace, serviceAccount, pod, node, audiences, notBeforeSeconds = 0 } = request;
  const { expiresInSeconds = DEFAULT_LIFETIME_SECONDS } = request;
  return {
    iss: ISSUER,
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    aud: audiences,
    exp: seconds + expiresInSeconds,
    nbf: seconds + notBeforeSeconds,
    jti: randomUUID(),
    'kubernetes.io': {
      namespace,
      serviceaccount: { name: serviceAccount, uid: uidOf('serviceaccount', namespace, serviceAccount) },
      ...(pod !== undefined && { pod: { name: pod, uid: uidOf('pod', namespace, pod) } }),
      ...(node !== undefined && { node: { name: node, uid: uidOf('node', node) } }),
    },
  };
}

function keyId(publicKey: KeyObject): string {
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');
}

function toUuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join('-');
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
