/** Most rounds of unescaping; a text that needs all of them is treated as if it held a token. */
const MAX_ROUNDS = 5;

/** How many layers of base64 are removed: the base64 of a token, and the base64 of a text with the base64 of a token. */
const MAX_LAYERS = 2;

/** Base64 and base64url; a slash may also separate path segments. 16 bytes take 22 characters. */
const BASE64_RUN = /[A-Za-z0-9+/_-]{22,}/g;

/** Percent-encoding (RFC 3986 §2.1), JSON and JavaScript escapes, character references of HTML. */
const ESCAPE =
  /%u([\da-f]{4})|%([\da-f]{2})|\\u([\da-f]{4})|\\x([\da-f]{2})|&#x([\da-f]{1,5});?|&#(\d{1,6});?|\\([^\da-z])/gi;

/** What a text says in any encoding that a reader can undo. */
export interface Forms {
  readonly forms: readonly string[];
  /** False if the text is escaped so often that more may be hidden in it. */
  readonly isComplete: boolean;
}

/**
 * Returns the text itself, the text unescaped as often as it can be, and all base64 and hexadecimal digits in it decoded.
 * Each layer is a constant number of times longer than the one before at most, so the time is linear in the text.
 */
export function formsOf(text: string): Forms {
  const forms: string[] = [];
  let isComplete = true;
  let layer = [text];
  for (let depth = 0; depth <= MAX_LAYERS; depth += 1) {
    const unescaped = layer.map(unescapings);
    // What base64 decodes to is noise most of the time, in which any escape may occur.
    if (depth === 0) isComplete = unescaped.every(one => one.length <= MAX_ROUNDS);
    layer = unescaped.flat();
    forms.push(...layer);
    if (depth < MAX_LAYERS) layer = layer.flatMap(decodings);
  }
  return { forms, isComplete };
}

/** Returns a text and what each round of unescaping makes of it: the rounds stop at {@link MAX_ROUNDS}. */
export function unescapings(text: string): string[] {
  const all = [text];
  for (let next = undoEscapes(text); next !== all.at(-1) && all.length <= MAX_ROUNDS; next = undoEscapes(next)) {
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

/** Each run of base64 at all four alignments, and hexadecimal digits at both: where an encoded value begins is unknown. */
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

/** Letters in lower case and digits by their code, anything else as 0. */
const KEPT = Uint8Array.from({ length: 256 }, (_, code) =>
  /[A-Za-z0-9]/.test(String.fromCharCode(code)) ? String.fromCharCode(code).toLowerCase().charCodeAt(0) : 0,
);

/** Returns letters and digits alone, in lower case: separators and the alphabet of base64 make no difference then. */
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
