import { hash, randomBytes } from 'node:crypto';
import { revealToken, type Token } from '../credential/token.ts';

declare const brand: unique symbol;

/** What a verdict is stored under: a salted hash, from which no token can be had back. */
export type CacheKey = string & { readonly [brand]: 'CacheKey' };

/**
 * Makes keys for tokens reviewed with these audiences: SHA-256 over salt, audiences and token, the first two with their length in
 * front, since otherwise `xy` + `z` would equal `x` + `yz`; the token comes last and ends where the text ends.
 *
 * @param salt random for each process, so that keys mean nothing outside it and cannot be prepared to collide.
 */
export function cacheKeys(audiences: readonly string[], salt = randomBytes(32).toString('base64url')) {
  const asked = audiences.map(part).join('');
  const prefix = Buffer.from(part(salt) + part(asked));
  let room = roomFor(prefix, USUAL_LENGTH);
  const keyOf = (token: Token): CacheKey => {
    const noted = token.noted(keyOf);
    if (noted !== undefined) return noted as CacheKey;
    const value = revealToken(token);
    if (room.length < spaceFor(prefix, value.length)) room = roomFor(prefix, value.length);
    // Joined in place: the hash of a string has to copy it twice before it begins.
    const end = prefix.length + room.write(value, prefix.length, 'utf8');
    const key = hash('sha256', room.subarray(0, end), 'latin1' as 'hex') as CacheKey;
    // Else the last token would be there until the next one comes.
    room.fill(0, prefix.length, end);
    token.note(keyOf, key);
    return key;
  };
  return keyOf;
}

/** Longer than nearly all tokens, in characters. */
const USUAL_LENGTH = 4096;

/** Bytes that a token of this length needs behind the prefix: three a character in UTF-8. */
function spaceFor(prefix: Buffer, length: number): number {
  return prefix.length + 3 * length;
}

function roomFor(prefix: Buffer, length: number): Buffer {
  const room = Buffer.alloc(spaceFor(prefix, length));
  prefix.copy(room);
  return room;
}

function part(text: string): string {
  return `${text.length}:${text}`;
}
