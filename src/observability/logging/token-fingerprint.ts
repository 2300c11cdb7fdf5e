import { hash } from 'node:crypto';
import { revealToken, type Token } from '../../credential/token.ts';

/**
 * What a log calls a token: the first twelve hexadecimal digits of its SHA-256, so that whoever holds the token finds its
 * lines (`printf %s "$TOKEN" | sha256sum | cut -c1-12`) and nobody else can make a token of it.
 */
export function fingerprint(token: Token): string {
  return hash('sha256', revealToken(token), 'hex').slice(0, 12);
}
