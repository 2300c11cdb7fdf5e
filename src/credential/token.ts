import { inspect } from 'node:util';

const PLACEHOLDER = '[token]';

/**
 * A bearer token that cannot be printed by accident: template strings, `JSON.stringify`, `util.inspect` and loggers all
 * show `[token]`. The value sits in a private field, and {@link revealToken} is the only way to it; `test/architecture.test.ts`
 * holds the short list of modules that may call it.
 */
export class Token {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** Length in characters; those that are well-formed (RFC 6750) are ASCII, so also in bytes. */
  get length(): number {
    return this.#value.length;
  }

  static reveal(token: Token): string {
    return token.#value;
  }

  toString(): string {
    return PLACEHOLDER;
  }

  toJSON(): string {
    return PLACEHOLDER;
  }

  [inspect.custom](): string {
    return PLACEHOLDER;
  }
}

/** The token's characters, for what must send, hash, parse or redact them and for nothing else. */
export const revealToken: (token: Token) => string = Token.reveal;

/**
 * `text` with every occurrence of the token replaced by `[token]`. For text that somebody else wrote (an API server's
 * error, a gateway's header) and that could repeat the token.
 */
export function redactToken(text: string, token: Token): string {
  return text.replaceAll(revealToken(token), PLACEHOLDER);
}

/** What parts of a JWT and the dots between them are made of; in a URI a dot may be percent-encoded. */
const DOTTED = /(?:[A-Za-z0-9_.-]|%2e)+/gi;
const DOT = /\.|%2e/i;

/**
 * 16 characters of base64url that decode to 12 bytes of ASCII and begin as a JSON object does: `{"`, or `{` and white space.
 * So begins the first part of a JWT, and the second part, which holds the claims. Three of four characters of each group are
 * limited by the bits that ASCII leaves at zero, so that a word such as `surveyJobs` hardly ever matches.
 */
export const JSON_START: RegExp =
  /(?:ey[JA]|ew[ok0])[\w-](?:[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][\w-]){3}/;

/** From where a part is replaced: before a dot less is enough. */
const JWT_ALONE = new RegExp(`${JSON_START.source}.*`);
const JWT_BEFORE_DOT = new RegExp(`(?:eyJ.|${JSON_START.source}).*`);

/**
 * `text` with every JWT in it replaced by `[token]`: for text that could hold a token other than the one at hand. The
 * first part of a compact JWS or JWE is the base64url of `{"…` and so always begins alike (RFC 7515 §7.1, RFC 7516 §7.1).
 * A part that stands alone is replaced too: a gateway may have cut the rest, and the claims are in one part.
 *
 * Takes time in proportion to the text, which may be a caller's: one pattern that tries each `eyJ` anew took a second
 * for 60 KB of them.
 */
export function redactJwts(text: string): string {
  return text.replace(DOTTED, run => {
    const parts = run.split(DOT);
    const startIn = (index: number) => (index < parts.length - 1 ? JWT_BEFORE_DOT : JWT_ALONE);
    const at = parts.findIndex((part, index) => startIn(index).test(part));
    if (at < 0) return run;
    return [...parts.slice(0, at), parts[at]?.replace(startIn(at), PLACEHOLDER)].join('.');
  });
}
