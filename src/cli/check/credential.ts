import { X509Certificate } from 'node:crypto';
import { readClaims, readJwt } from '../../credential/jwt-claims.ts';
import { Token } from '../../credential/token.ts';
import type { KubeEndpoint } from '../../kube/endpoint.ts';
import { quoteUntrusted } from '../output.ts';
import { type CheckResult, fail, ok, warn } from './check-result.ts';

/** Returns gatecar's own bearer token, if it has one. */
export function ownToken({ headers }: KubeEndpoint): Token | undefined {
  const [, value] = /^Bearer (.+)$/i.exec(headers['authorization'] ?? '') ?? [];
  return value === undefined ? undefined : new Token(value);
}

/**
 * Returns the subject that a token claims, in the form that `kubectl --as` takes. The claim is not
 * verified: use it only in suggested commands.
 */
export function ownName(token: Token | undefined): string {
  const sub = token && readJwt(token)?.claims['sub'];
  return typeof sub === 'string' && /^[a-z0-9:.@_-]{1,253}$/i.test(sub) ? sub : 'system:serviceaccount:gatecar:gatecar';
}

const RENEW =
  'kubectl create token gatecar --namespace gatecar   # in a pod the kubelet rotates it: kubectl describe pod';

/** Checks gatecar's own credential by its own claims or dates. The credential is never printed. */
export function checkCredential(endpoint: KubeEndpoint, nowMs: number): CheckResult {
  const token = ownToken(endpoint);
  if (token !== undefined) return checkToken(token, nowMs);
  const { headers, tls, baseUrl } = endpoint;
  if (tls.cert !== undefined) return checkCertificate(tls.cert, nowMs);
  if (headers['authorization'] !== undefined) return ok('credential', 'name and password');
  if (!baseUrl.startsWith('https:')) return ok('credential', 'none is sent over plain http: the proxy adds its own');
  return warn(
    'credential',
    'none: the API server sees gatecar as system:anonymous',
    'gatecar --help   # GATECAR_KUBE_TOKEN_FILE',
  );
}

function checkToken(token: Token, nowMs: number): CheckResult {
  const claims = readClaims(token);
  if (claims === undefined) return ok('credential', 'an opaque bearer token of unknown lifetime');
  const { expiresAtMs, audiences } = claims;
  const what = `a token of ${quoteUntrusted(readJwt(token)?.claims['sub'])} for ${quoteUntrusted(audiences ?? [])}`;
  if (expiresAtMs === undefined) return ok('credential', `${what}, which never expires`);
  const until = new Date(Math.min(expiresAtMs, 8.64e15)).toISOString();
  if (nowMs > expiresAtMs) {
    return fail('credential', `${what}, which expired ${until}; it is ${new Date(nowMs).toISOString()} here`, RENEW);
  }
  return ok('credential', `${what}, until ${until}`);
}

function checkCertificate(pem: Buffer | string, nowMs: number): CheckResult {
  try {
    const { subject, validToDate } = new X509Certificate(pem);
    const what = `a client certificate of ${quoteUntrusted(subject)}`;
    return nowMs > validToDate.getTime()
      ? fail('credential', `${what}, which expired ${validToDate.toISOString()}`, 'kubectl config view --minify')
      : ok('credential', `${what}, until ${validToDate.toISOString()}`);
  } catch {
    return fail('credential', 'the client certificate cannot be read', 'kubectl config view --minify');
  }
}
