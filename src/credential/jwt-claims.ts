import { revealToken, type Token } from './token.ts';

/** RFC 8259 §6. */
const JSON_NUMBER = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** What a JWT says about itself. Nothing here is verified; only the API server's yes gives it weight. */
export interface UnverifiedClaims {
  /** `iss`, where the token has one. */
  readonly issuer: string | undefined;
  /** `aud` as a list; `undefined` where there is none, or none of the right type. */
  readonly audiences: readonly string[] | undefined;
  /** `exp` in milliseconds since the epoch, where the token has one. */
  readonly expiresAtMs: number | undefined;
  /** `nbf`, likewise. */
  readonly notBeforeMs: number | undefined;
}

/** A JWT's header and claims, all of them, as somebody wrote them. */
export interface UnverifiedJwt {
  readonly header: Readonly<Record<string, unknown>>;
  readonly claims: Readonly<Record<string, unknown>>;
}

/**
 * Reads a compact JWS (RFC 7515 §7.1) without verifying it.
 *
 * @returns `undefined` for an opaque token: anything that is not three parts whose first two decode to JSON objects.
 */
export function readClaims(token: Token): UnverifiedClaims | undefined {
  const jwt = readJwt(token);
  if (jwt === undefined) return undefined;
  const { iss, aud, exp, nbf } = jwt.claims;
  return {
    issuer: typeof iss === 'string' ? iss : undefined,
    audiences: toAudienceList(aud),
    expiresAtMs: toMilliseconds(parseNumericDate(exp)),
    notBeforeMs: toMilliseconds(nbf),
  };
}

/** {@link readClaims}, with all that is in there, for people to read. */
export function readJwt(token: Token): UnverifiedJwt | undefined {
  const [first, second, third, ...rest] = revealToken(token).split('.');
  if (first === undefined || second === undefined || third === undefined || rest.length > 0) return undefined;
  const claims = decodeObject(second);
  const header = claims && decodeObject(first);
  return claims && header && { header, claims };
}

/** RFC 7519 §4.1.3: one audience may stand without a list. */
function toAudienceList(aud: unknown): readonly string[] | undefined {
  if (typeof aud === 'string') return [aud];
  return Array.isArray(aud) && aud.every(item => typeof item === 'string') ? aud : undefined;
}

/** RFC 7519 §2 NumericDate, which may have a fraction. */
function toMilliseconds(date: unknown): number | undefined {
  return typeof date === 'number' && Number.isFinite(date) ? date * 1000 : undefined;
}

/**
 * Some issuers write the end of a token as a text, and the API server's OIDC authenticator takes that. A yes must not outlive
 * it all the same.
 */
function parseNumericDate(date: unknown): unknown {
  return typeof date === 'string' && JSON_NUMBER.test(date) ? Number(date) : date;
}

function decodeObject(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    // The parse error quotes the token's bytes and must not travel.
    return undefined;
  }
}
