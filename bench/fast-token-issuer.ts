import { randomBytes } from 'node:crypto';
import { type ServiceAccountClaims, type TokenIssuer, tokenIssuer } from '../src/dev/token-issuer.ts';

/**
 * Issues and accepts tokens of the same form and length without real signatures. Signing many
 * tokens would take most of the scenario's time. It publishes no key, so gatecar has every token
 * reviewed.
 */
export function hastyIssuer(): TokenIssuer {
  const real = tokenIssuer();
  let made = 0;
  const issue: TokenIssuer['issue'] = ({ namespace, serviceAccount, audiences }) => {
    made += 1;
    template ??= claimsOf(real.issue({ namespace, serviceAccount, audiences, pod: 'pod', node: 'node' }));
    const uid = `${String(made).padStart(8, '0')}-8f2b-4d2c-9a53-1d6f4f1f7a10`;
    const claims = {
      ...template,
      jti: uid,
      'kubernetes.io': { ...template['kubernetes.io'], pod: { name: `my-app-7d4b9c6f5d-${made}`, uid } },
    };
    return `${encode({ alg: 'RS256', kid: 'none' })}.${encode(claims)}.${randomBytes(256).toString('base64url')}`;
  };
  let template: ServiceAccountClaims | undefined;
  const verify: TokenIssuer['verify'] = token =>
    // The token of the readiness probe is not a JWT.
    token.includes('.') ? { kind: 'ours', claims: claimsOf(token) } : { kind: 'not a token of this issuer' };
  return { ...real, jwks: { keys: [] }, issue, verify };
}

function claimsOf(token: string): ServiceAccountClaims {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
}

function encode(part: unknown): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}
