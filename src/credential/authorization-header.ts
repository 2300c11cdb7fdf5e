import { Token } from './token.ts';

/** What a request carries in `Authorization`. */
export type Credential =
  /** `presented` is all of the field that may hold a secret. It is kept for redaction alone. */
  | { readonly kind: 'absent' | 'foreign' | 'empty' | 'malformed'; readonly presented?: Token }
  | { readonly kind: 'token'; readonly token: Token };

const ABSENT: Credential = { kind: 'absent' };
const EMPTY: Credential = { kind: 'empty' };

/** RFC 6750 §2.1 `b64token`. */
const B64_TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

const SCHEME = 'bearer';
/** RFC 9110 §11.1: a scheme is a token, which ends where a character comes that no token has. */
const IS_BEARER = /^bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])/i;

/**
 * Reads the credential from a flat list of header names and values (`IncomingMessage.rawHeaders`).
 *
 * Several `Authorization` fields are `malformed`, whatever they hold: gateways differ in which one they would believe
 * (RFC 9110 §5.3 allows no list here). An empty field counts as absent, as some gateways send one for "none".
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

/** Every `Authorization` value: each may hold a token that must not be logged. */
function valuesFrom(rawHeaders: readonly string[]): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === 'authorization');
}

/** What a request presented as its credential, well-formed or not: it must not be logged. */
export function presentedIn(credential: Credential): Token | undefined {
  return credential.kind === 'token' ? credential.token : credential.presented;
}

/**
 * Parses one `Authorization` field value (RFC 6750 §2.1, scheme in any case as RFC 9110 §11.1 asks).
 *
 * Exactly one space parts scheme and token. The grammar would allow more, but the API server rebuilds
 * `Bearer <token>` and reads a token with a leading space as no token at all, which its anonymous authenticator then
 * *accepts*; likewise it drops what follows a space or a line end. So nothing but the RFC's characters gets through.
 */
export function parseAuthorization(value: string | undefined): Credential {
  if (value === undefined || value === '') return ABSENT;
  if (!IS_BEARER.test(value)) return { kind: 'foreign', presented: new Token(value) };
  const rest = value.slice(SCHEME.length);
  if (rest === '' || rest === ' ') return EMPTY;
  if (rest.charCodeAt(0) !== 0x20) return { kind: 'malformed', presented: new Token(rest) };
  const text = rest.slice(1);
  const token = new Token(text);
  return B64_TOKEN.test(text) ? { kind: 'token', token } : { kind: 'malformed', presented: token };
}
