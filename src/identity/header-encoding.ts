const UNSAFE_IN_ITEM = /[^\x21-\x7e]|[%,]/;
const UNSAFE_IN_VALUE = /[^\x20-\x7e]|%|^ | $/;

/**
 * Percent-encodes a single value (RFC 3986 §2.1, UTF-8). It encodes `%`, control characters and
 * non-ASCII characters, and spaces at the ends, which HTTP would trim. Decoding always returns the
 * original, so different values never look alike.
 */
export function encodeValue(value: string): string {
  return UNSAFE_IN_VALUE.test(value) ? encodeCharacters(value, UNSAFE_IN_VALUE) : value;
}

/**
 * Percent-encodes one item of a comma-separated list like {@link encodeValue}, and also every comma
 * and space.
 */
export function encodeItem(item: string): string {
  return UNSAFE_IN_ITEM.test(item) ? encodeCharacters(item, UNSAFE_IN_ITEM) : item;
}

function encodeCharacters(text: string, unsafe: RegExp): string {
  let encoded = '';
  for (const character of text) encoded += unsafe.test(character) ? percentEncode(character) : character;
  return encoded;
}

function percentEncode(character: string): string {
  return utf8(character)
    .map(byte => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
    .join('');
}

function utf8(character: string): number[] {
  if (character.isWellFormed()) return [...Buffer.from(character, 'utf8')];
  // `Buffer.from` would replace each lone surrogate by U+FFFD, and different values would look
  // alike. A lone surrogate keeps its own three-byte form.
  const unit = character.charCodeAt(0);
  return [0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 0x3f), 0x80 | (unit & 0x3f)];
}
