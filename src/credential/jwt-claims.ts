import { decodeJsonObject } from './base64url-json.ts';
import { revealToken, type Token } from './token.ts';

/** A JSON number (RFC 8259 §6). */
const JSON_NUMBER = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/**
 * The claims of a JWT. None of them is verified. They count only if the API server authenticates
 * the token.
 */
export interface UnverifiedClaims {
  /** `iss`, if the token has one. */
  readonly issuer: string | undefined;
  /** `aud` as a list; `undefined` if it is absent or has the wrong type. */
  readonly audiences: readonly string[] | undefined;
  /** `exp` in milliseconds since the epoch, if the token has one. */
  readonly expiresAtMs: number | undefined;
  /** `nbf` in milliseconds since the epoch, if the token has one. */
  readonly notBeforeMs: number | undefined;
}

/** A JWT's complete header and claims, unverified. */
export interface UnverifiedJwt {
  readonly header: Readonly<Record<string, unknown>>;
  readonly claims: Readonly<Record<string, unknown>>;
}

/**
 * Reads a compact JWS (RFC 7515 §7.1) without verifying it.
 *
 * @returns `undefined` for an opaque token. A token is opaque if it does not have exactly three
 *   parts, or if the first two parts do not decode to JSON objects.
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

/** Returns the complete header and claims, for display. Reads a token like {@link readClaims}. */
export function readJwt(token: Token): UnverifiedJwt | undefined {
  const [first, second, third, ...rest] = revealToken(token).split('.');
  if (first === undefined || second === undefined || third === undefined || rest.length > 0) return undefined;
  const claims = decodeJsonObject(second);
  const header = claims && decodeJsonObject(first);
  return claims && header && { header, claims };
}

/** Returns `aud` as a list. A single audience may be a plain string (RFC 7519 §4.1.3). */
function toAudienceList(aud: unknown): readonly string[] | undefined {
  if (typeof aud === 'string') return [aud];
  return Array.isArray(aud) && aud.every(item => typeof item === 'string') ? aud : undefined;
}

/** Converts a NumericDate, which may have a fraction, to milliseconds (RFC 7519 §2). */
function toMilliseconds(date: unknown): number | undefined {
  return typeof date === 'number' && Number.isFinite(date) ? date * 1000 : undefined;
}

/**
 * Converts an `exp` that is a string. Some issuers write it so, and the API server's OIDC
 * authenticator accepts it. A cached result must not outlive such a token either.
 */
function parseNumericDate(date: unknown): unknown {
  return typeof date === 'string' && JSON_NUMBER.test(date) ? Number(date) : date;
}
