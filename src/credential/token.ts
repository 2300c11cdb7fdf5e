import { inspect } from 'node:util';

const PLACEHOLDER = '[token]';

/**
 * A bearer token that cannot be printed by accident: template strings, `JSON.stringify`, `util.inspect` and loggers all
 * show `[token]`. The value sits in a private field, and {@link revealToken} is the only way to it; `test/house.test.ts`
 * holds the short list of modules that may call it.
 */
export class Token {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** Length in characters; tokens are ASCII by the time they are a `Token`, so also in bytes. */
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
