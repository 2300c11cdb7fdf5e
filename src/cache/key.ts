import { hash, randomBytes } from 'node:crypto';
import { revealToken, type Token } from '../credential/token.ts';

declare const brand: unique symbol;

/** What a verdict is stored under: a salted hash, from which no token can be had back. */
export type CacheKey = string & { readonly [brand]: 'CacheKey' };

/**
 * Makes keys for tokens reviewed with these audiences: SHA-256 over salt, token and audiences, each with its length in
 * front, since otherwise `xy` + `z` would equal `x` + `yz`.
 *
 * @param salt random for each process, so that keys mean nothing outside it and cannot be prepared to collide.
 */
export function cacheKeys(audiences: readonly string[], salt = randomBytes(32).toString('base64url')) {
  const asked = audiences.map(part).join('');
  const prefix = part(salt) + part(asked);
  return (token: Token): CacheKey => {
    const value = revealToken(token);
    return hash('sha256', `${prefix}${value.length}:${value}`, 'latin1' as 'hex') as CacheKey;
  };
}

function part(text: string): string {
  return `${text.length}:${text}`;
}
