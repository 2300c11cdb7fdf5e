import { hash, randomBytes } from 'node:crypto';
import { revealToken, type Token } from '../../credential/token.ts';

declare const brand: unique symbol;

/** What a verdict is stored under: a salted hash, from which no token can be had back. */
export type CacheKey = string & { readonly [brand]: 'CacheKey' };

/**
 * Makes keys for tokens reviewed with these audiences: SHA-256 over salt, audiences and token.
 *
 * Salt and audiences have their length in front, since otherwise `xy` + `z` would equal `x` + `yz`.
 * The token comes last and ends with the text.
 *
 * @param salt random for each process. Keys mean nothing outside it, and no collision can be
 *   prepared.
 * @returns a function whose keys are 32 characters of Latin-1, one per byte of the hash.
 */
export function createCacheKeyFn(
  audiences: readonly string[],
  salt: string = randomBytes(32).toString('base64url'),
): (token: Token) => CacheKey {
  const prefix = lengthPrefixed(salt) + lengthPrefixed(audiences.map(lengthPrefixed).join(''));
  return token => hash('sha256', prefix + revealToken(token), 'binary') as CacheKey;
}

function lengthPrefixed(text: string): string {
  return `${text.length}:${text}`;
}
