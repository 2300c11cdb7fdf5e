import { MAX_DECODING_ROUNDS, MAX_ENCODING_LAYERS } from '../limits/constants.ts';

/**
 * Base64 or base64url of at least 16 bytes (22 characters). A slash may also separate path
 * segments.
 */
const BASE64_RUN = /[A-Za-z0-9+/_-]{22,}/g;

/** Percent-encoding (RFC 3986 §2.1), JSON and JavaScript escapes, HTML character references. */
const ESCAPE =
  /%u([\da-f]{4})|%([\da-f]{2})|\\u([\da-f]{4})|\\x([\da-f]{2})|&#x([\da-f]{1,5});?|&#(\d{1,6});?|\\([^\da-z])/gi;

/** A text in every form that a reader could decode it to. */
export interface Forms {
  readonly forms: readonly string[];
  /** False if the text is escaped so often that more may be hidden in it. */
  readonly isComplete: boolean;
}

/**
 * Returns the text itself, the text after each round of unescaping, and all base64 and hexadecimal
 * digits in it decoded. Each layer is longer than the one before by at most a constant factor, so
 * the time is linear in the text.
 */
export function formsOf(text: string): Forms {
  const forms: string[] = [];
  let isComplete = true;
  let layer = [text];
  for (let depth = 0; depth <= MAX_ENCODING_LAYERS; depth += 1) {
    const unescaped = layer.map(unescapings);
    // Decoded base64 is mostly noise, which may contain any escape by chance.
    if (depth === 0) isComplete = unescaped.every(one => one.length <= MAX_DECODING_ROUNDS);
    layer = unescaped.flat();
    forms.push(...layer);
    if (depth < MAX_ENCODING_LAYERS) layer = layer.flatMap(decodings);
  }
  return { forms, isComplete };
}

/**
 * Returns a text and the result of each round of unescaping, up to {@link MAX_DECODING_ROUNDS}
 * rounds.
 */
export function unescapings(text: string): string[] {
  const all = [text];
  for (
    let next = undoEscapes(text);
    next !== all.at(-1) && all.length <= MAX_DECODING_ROUNDS;
    next = undoEscapes(next)
  ) {
    all.push(next);
  }
  return all;
}

function undoEscapes(text: string): string {
  return text.replace(ESCAPE, (_all, u1, p, u2, x, h, d, plain) => {
    if (plain !== undefined) return plain;
    return String.fromCodePoint(d === undefined ? Number.parseInt(u1 ?? p ?? u2 ?? x ?? h, 16) : Number(d));
  });
}

/**
 * Decodes each run of base64 at all four alignments and hexadecimal digits at both. The start of an
 * encoded value within a run is unknown.
 */
function decodings(text: string): string[] {
  const runs = (text.match(BASE64_RUN) ?? []).flatMap(run =>
    [0, 1, 2, 3].map(from => Buffer.from(run.slice(from), 'base64').toString('latin1')),
  );
  const digits =
    squeeze(text)
      .toString('latin1')
      .match(/[\da-f]{32,}/g) ?? [];
  const bytes = digits.flatMap(run => [0, 1].map(from => Buffer.from(run.slice(from), 'hex').toString('latin1')));
  return [...runs, ...bytes];
}

/** Maps a byte to its lower-case letter or digit, and anything else to 0. */
const KEPT = Uint8Array.from({ length: 256 }, (_, code) =>
  /[A-Za-z0-9]/.test(String.fromCharCode(code)) ? String.fromCharCode(code).toLowerCase().charCodeAt(0) : 0,
);

/**
 * Returns only letters and digits, in lower case. The result does not depend on separators or on
 * the base64 alphabet.
 */
export function squeeze(text: string): Buffer {
  const bytes = Buffer.from(text);
  let length = 0;
  for (let index = 0; index < bytes.length; index += 1) {
    const code = KEPT[bytes[index] as number] as number;
    if (code !== 0) {
      bytes[length] = code;
      length += 1;
    }
  }
  return bytes.subarray(0, length);
}
