import { inspect } from 'node:util';

const PLACEHOLDER = '[token]';

/**
 * A bearer token that cannot be printed by accident. Template strings, `JSON.stringify`,
 * `util.inspect` and loggers all show `[token]`. The value is in a private field, and only
 * {@link revealToken} reads it. `test/architecture.test.ts` lists the modules that may call it.
 */
export class Token {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /**
   * Length in characters. Well-formed tokens (RFC 6750) are ASCII, so it is also the length in
   * bytes.
   */
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

/** Returns the token's characters. Use it only to send, hash, parse or redact them. */
export const revealToken: (token: Token) => string = Token.reveal;

/**
 * Returns `text` with every occurrence of the token replaced by `[token]`. Use it for text from
 * others that may repeat the token, such as an API server's error or a gateway's header.
 */
export function redactToken(text: string, token: Token): string {
  return text.replaceAll(revealToken(token), PLACEHOLDER);
}

/** The characters of JWT parts and the dots between them. In a URI a dot may be percent-encoded. */
const DOTTED = /(?:[A-Za-z0-9_.-]|%2e)+/gi;
const DOT = /\.|%2e/i;

/**
 * Matches 16 base64url characters that decode to 12 bytes of ASCII and start a JSON object: `{"`,
 * or `{` and white space. The first part of a JWT starts this way, and so does the second, the
 * claims. The top bit of each ASCII byte is zero, which restricts three of every four base64
 * characters. A word such as `surveyJobs` therefore rarely matches.
 */
export const JSON_START: RegExp =
  /(?:ey[JA]|ew[ok0])[\w-](?:[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][\w-]){3}/;

/** Matches from the start of a JWT part. Before a dot, a shorter start is sufficient. */
const JWT_ALONE = new RegExp(`${JSON_START.source}.*`);
const JWT_BEFORE_DOT = new RegExp(`(?:eyJ.|${JSON_START.source}).*`);

/**
 * Returns `text` with every JWT in it replaced by `[token]`. Use it for text that may contain a
 * token other than the request's own. The first part of a compact JWS or JWE is the base64url of
 * `{"…` (RFC 7515 §7.1, RFC 7516 §7.1). It therefore always starts with the same characters. A
 * single part is replaced too: a gateway may have cut off the rest, and the claims are in one part.
 *
 * The time is linear in the text, which a caller may control. A single pattern that restarts at
 * each `eyJ` would take quadratic time.
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
