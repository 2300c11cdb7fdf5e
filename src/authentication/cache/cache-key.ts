import { hash, randomBytes } from 'node:crypto';
import { revealToken, type Token } from '../../credential/token.ts';

declare const brand: unique symbol;

/** The key of a cached result: a salted hash, from which the token cannot be recovered. */
export type CacheKey = string & { readonly [brand]: 'CacheKey' };

/**
 * Creates a function that computes keys: SHA-256 over salt, audiences and token.
 *
 * Salt and audiences are length-prefixed, since otherwise `xy` + `z` would equal `x` + `yz`. The
 * token comes last, so it needs no prefix.
 *
 * @param audiences the audiences with which tokens are reviewed.
 * @param salt random for each process. Keys mean nothing outside the process, and an attacker
 *   cannot prepare a collision.
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
