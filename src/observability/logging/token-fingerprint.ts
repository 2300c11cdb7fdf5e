import { hash } from 'node:crypto';
import { revealToken, type Token } from '../../credential/token.ts';

/**
 * Returns the first twelve hexadecimal digits of a token's SHA-256, which name the token in logs.
 * The token's owner can find its lines (`printf %s "$TOKEN" | sha256sum | cut -c1-12`). The token
 * cannot be derived from the fingerprint.
 */
export function fingerprint(token: Token): string {
  return hash('sha256', revealToken(token), 'hex').slice(0, 12);
}
