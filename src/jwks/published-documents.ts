import { KubeApiError } from '../kube/api-client.ts';
import type { HttpResponse } from '../kube/http-request.ts';
import { JWKS_DEFAULT_LIFETIME_SECONDS, JWKS_MAX_LIFETIME_SECONDS } from '../limits/constants.ts';
import { createJwsVerifier, type JwsVerifier } from './jws-verifier.ts';

export const DISCOVERY_PATH = '/.well-known/openid-configuration';
export const JWKS_PATH = '/openid/v1/jwks';

/** Gets a document of the API server. @throws {KubeApiError} if there is no response. */
export type GetDocument = (path: string) => Promise<HttpResponse>;

/** A document as received, not yet parsed. */
export interface PublishedDocument {
  readonly body: string;
  readonly lifetimeMs: number;
}

/** Gets a document. @throws {KubeApiError} also for a status other than 200. */
export async function getDocument(get: GetDocument, path: string): Promise<PublishedDocument> {
  const { status, body, maxAgeSeconds = JWKS_DEFAULT_LIFETIME_SECONDS } = await get(path);
  if (status !== 200) throw new KubeApiError('unexpected_status', `GET ${path}: HTTP ${status}`);
  return { body, lifetimeMs: Math.min(maxAgeSeconds, JWKS_MAX_LIFETIME_SECONDS) * 1000 };
}

/**
 * Reads the issuer (OpenID Connect Discovery 1.0 §4). @throws {KubeApiError} for any other
 * document.
 */
export function readIssuer(body: string): string {
  const { issuer } = parse(body, DISCOVERY_PATH);
  if (typeof issuer !== 'string' || issuer === '') throw malformed(DISCOVERY_PATH);
  return issuer;
}

/** Reads a JWK Set (RFC 7517 §5). @throws {KubeApiError} for any other document. */
export function readKeys(body: string): JwsVerifier {
  const jwks = parse(body, JWKS_PATH);
  try {
    return createJwsVerifier(jwks);
  } catch {
    throw malformed(JWKS_PATH);
  }
}

function parse(body: string, path: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = JSON.parse(body);
  } catch {
    // The parse error quotes the document and is therefore dropped.
    content = undefined;
  }
  if (typeof content !== 'object' || content === null) throw malformed(path);
  return { ...content };
}

function malformed(path: string): KubeApiError {
  return new KubeApiError('unexpected_status', `GET ${path}: not the document that is expected`);
}
