/** A text that has so many letters and digits in a row in common with a token holds a part of that token. */
const WINDOW = 12;

/** A prime, for the hash that is rolled over a text: each character costs the same, whatever the texts are. */
const FACTOR = 0x01000193;

/** By how much the oldest character of a window counts when it leaves. */
const LEAVING = Array.from({ length: WINDOW }).reduce<number>(power => Math.imul(power, FACTOR), 1);

/** Bits of a hash that the filter is indexed with; most hashes need no look-up in the map. */
const FILTER_BITS = 12;

/** All windows of some texts, to look for parts of a secret in them. */
export interface Parts {
  readonly text: Buffer;
  /** Where in the text each window begins, by its hash. */
  readonly at: ReadonlyMap<number, number>;
  readonly filter: Uint8Array;
}

/** Indexes texts, each squeezed to letters and digits. The zero between two texts is in no secret. */
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

/** Whether the texts hold a secret, or 12 characters in a row of a longer one. Linear in the secret. */
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

/** The hash of each window of a text, in order. */
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
