import { Token } from './token.ts';

/** The content of a request's `Authorization` header. */
export type Credential =
  /** `presented` is the part of the field that may be a secret. It is kept only for redaction. */
  | { readonly kind: 'absent' | 'other_scheme' | 'empty' | 'malformed'; readonly presented?: Token }
  | { readonly kind: 'token'; readonly token: Token };

const ABSENT: Credential = { kind: 'absent' };
const EMPTY: Credential = { kind: 'empty' };

/** `b64token` (RFC 6750 §2.1). */
const B64_TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

const SCHEME = 'bearer';
/**
 * The scheme is a `token` (RFC 9110 §11.1). It ends before the first character that a `token`
 * cannot contain.
 */
const IS_BEARER = /^bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])/i;

/**
 * Reads the credential from a flat list of header names and values (`IncomingMessage.rawHeaders`).
 *
 * Several `Authorization` fields are always `malformed`, since gateways differ in which one they
 * use (RFC 9110 §5.3 allows no list here). An empty field counts as absent, since some gateways
 * send one for "none".
 */
export function readCredential(rawHeaders: readonly string[]): Credential {
  let found: string | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at];
    if (name === undefined || name.length !== 13 || name.toLowerCase() !== 'authorization') continue;
    if (found !== undefined) return { kind: 'malformed', presented: new Token(valuesFrom(rawHeaders).join(' ')) };
    found = rawHeaders[at + 1];
  }
  return parseAuthorization(found);
}

/** Returns all `Authorization` values. Each may contain a token that must not be logged. */
function valuesFrom(rawHeaders: readonly string[]): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === 'authorization');
}

/**
 * Returns what a request presented as its credential, well-formed or not. It must not be logged.
 */
export function presentedIn(credential: Credential): Token | undefined {
  return credential.kind === 'token' ? credential.token : credential.presented;
}

/**
 * Parses one `Authorization` field value (RFC 6750 §2.1). The scheme is case-insensitive, as RFC
 * 9110 §11.1 requires.
 *
 * Exactly one space must separate scheme and token, although the grammar allows more. The API
 * server rebuilds `Bearer <token>` and treats a token with a leading space as no token. Its
 * anonymous authenticator then *accepts* the request. It also drops everything after a space or a
 * line end. Therefore only the characters that the RFC allows are accepted.
 */
export function parseAuthorization(value: string | undefined): Credential {
  if (value === undefined || value === '') return ABSENT;
  if (!IS_BEARER.test(value)) return { kind: 'other_scheme', presented: new Token(value) };
  const rest = value.slice(SCHEME.length);
  if (rest === '' || rest === ' ') return EMPTY;
  if (rest.charCodeAt(0) !== 0x20) return { kind: 'malformed', presented: new Token(rest) };
  const text = rest.slice(1);
  const token = new Token(text);
  return B64_TOKEN.test(text) ? { kind: 'token', token } : { kind: 'malformed', presented: token };
}
