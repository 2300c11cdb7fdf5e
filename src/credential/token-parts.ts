/**
 * Window length in characters. A text that shares this many consecutive letters and digits with a
 * token contains a part of it.
 */
const WINDOW = 12;

/** Prime factor of the rolling hash. The cost per character is constant for every text. */
const FACTOR = 0x01000193;

/** Weight of a window's oldest character when it is removed from the hash. */
const LEAVING = Array.from({ length: WINDOW }).reduce<number>(power => Math.imul(power, FACTOR), 1);

/** Number of hash bits that index the filter. The filter avoids most look-ups in the map. */
const FILTER_BITS = 12;

/** An index of all windows of some texts, for finding parts of a secret in them. */
export interface Parts {
  readonly text: Buffer;
  /** The start of each window in the text, by the window's hash. */
  readonly at: ReadonlyMap<number, number>;
  readonly filter: Uint8Array;
}

/**
 * Indexes texts, each squeezed to letters and digits. A zero byte separates them. No secret
 * contains it, so no match spans two texts.
 */
export function partsOf(texts: readonly Buffer[]): Parts {
  const text = Buffer.concat(texts.flatMap(one => [one, Buffer.alloc(1)]));
  const at = new Map<number, number>();
  const filter = new Uint8Array(2 ** FILTER_BITS);
  hashesOf(text).forEach((hash, from) => {
    at.set(hash, from);
    filter[hash >>> (32 - FILTER_BITS)] = 1;
  });
  return { text, at, filter };
}

/**
 * Whether the texts contain a secret, or 12 consecutive characters of a longer one. The time is
 * linear in the secret.
 */
export function hasPartOf({ text, at, filter }: Parts, secret: Buffer): boolean {
  if (secret.length < WINDOW) return text.includes(secret);
  const hashes = hashesOf(secret);
  for (let from = 0; from < hashes.length; from += 1) {
    const hash = hashes[from] as number;
    if (filter[hash >>> (32 - FILTER_BITS)] === 0) continue;
    const found = at.get(hash);
    if (found !== undefined && secret.compare(text, found, found + WINDOW, from, from + WINDOW) === 0) return true;
  }
  return false;
}

/** Returns the hash of each window of a text, in order. */
function hashesOf(text: Buffer): Int32Array {
  const hashes = new Int32Array(Math.max(0, text.length - WINDOW + 1));
  let hash = 0;
  for (let index = 0; index < text.length; index += 1) {
    hash = (Math.imul(hash, FACTOR) + (text[index] as number)) | 0;
    if (index >= WINDOW) hash = (hash - Math.imul(LEAVING, text[index - WINDOW] as number)) | 0;
    if (index >= WINDOW - 1) hashes[index - WINDOW + 1] = hash;
  }
  return hashes;
}
