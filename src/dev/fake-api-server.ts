import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { quoted } from '../authentication/jwt-precheck.ts';
import { ISSUER, type ServiceAccountClaims, type TokenIssuer } from './token-issuer.ts';

/**
 * A TokenReview API on loopback that accepts the tokens of one issuer. For development and tests.
 */
export interface FakeApiServer {
  /** Base URL, for `GATECAR_KUBE_API_URL`. */
  readonly url: string;
  readonly server: Server;
  /** The number of reviews so far. */
  readonly reviews: number;
  /** Deletes a ServiceAccount: later reviews reject its tokens, as the API server does. */
  deleteServiceAccount(namespace: string, name: string): void;
  close(): Promise<void>;
}

export interface FakeApiServerOptions {
  readonly issuer: TokenIssuer;
  readonly now?: () => number;
}

const PATH = '/apis/authentication.k8s.io/v1/tokenreviews';
const MAX_BODY_BYTES = 1024 * 1024;
/** The clock skew that the API server tolerates, in seconds. */
const LEEWAY_SECONDS = 60;

interface ReviewSpec {
  readonly token: string;
  readonly audiences: readonly string[];
}

type ReviewStatus = Readonly<Record<string, unknown>>;

/**
 * Starts a server that reviews tokens as the API server does, with the same error texts. It checks
 * the signature, `exp`, `nbf`, the audience, and whether the ServiceAccount exists. It uses plain
 * HTTP and requires no credential, like `kubectl proxy`.
 */
export async function startFakeApiServer({ issuer, now = Date.now }: FakeApiServerOptions): Promise<FakeApiServer> {
  const deleted = new Set<string>();
  const documents: Readonly<Record<string, Record<string, unknown>>> = {
    '/.well-known/openid-configuration': { issuer: ISSUER },
    '/openid/v1/jwks': issuer.jwks,
  };
  let reviews = 0;

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const published = request.method === 'GET' ? documents[String(request.url)] : undefined;
    if (published !== undefined) return send(response, 200, published);
    if (request.url !== PATH || request.method !== 'POST') {
      return send(response, 404, failure(404, 'NotFound', 'the server could not find the requested resource'));
    }
    const spec = readSpec(await readBody(request));
    if (spec === undefined) return send(response, 400, failure(400, 'BadRequest', 'the body is no TokenReview'));
    reviews += 1;
    const status = review(spec, issuer, deleted, Math.floor(now() / 1000));
    send(response, 201, { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', metadata: {}, spec, status });
  };

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    server,
    get reviews() {
      return reviews;
    },
    deleteServiceAccount: (namespace, name) => {
      deleted.add(`${namespace}/${name}`);
    },
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function review(spec: ReviewSpec, issuer: TokenIssuer, deleted: ReadonlySet<string>, seconds: number): ReviewStatus {
  const verification = issuer.verify(spec.token);
  switch (verification.kind) {
    case 'ours':
      return reviewClaims(verification.claims, spec, deleted, seconds);
    case 'not a token of this issuer':
      return rejected('invalid bearer token');
    case 'unknown key':
      return rejected('[invalid bearer token, invalid signature, no keys found]');
    case 'wrong signature':
      return rejected('[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]');
  }
}

function reviewClaims(
  claims: ServiceAccountClaims,
  spec: ReviewSpec,
  deleted: ReadonlySet<string>,
  seconds: number,
): ReviewStatus {
  const asked = spec.audiences.length > 0 ? spec.audiences : [ISSUER];
  const audiences = asked.filter(audience => claims.aud.includes(audience));
  if (audiences.length === 0) {
    return rejected(
      `[invalid bearer token, token audiences ${quoted(claims.aud)} is invalid for the target audiences ${quoted(asked)}]`,
    );
  }
  if (seconds > claims.exp + LEEWAY_SECONDS)
    return rejected('[invalid bearer token, service account token has expired]');
  if (seconds < claims.nbf - LEEWAY_SECONDS)
    return rejected('[invalid bearer token, service account token is not valid yet]');
  const { namespace, serviceaccount } = claims['kubernetes.io'];
  if (deleted.has(`${namespace}/${serviceaccount.name}`)) {
    return rejected(`[invalid bearer token, serviceaccounts "${serviceaccount.name}" not found]`);
  }
  return { authenticated: true, user: userOf(claims), audiences };
}

function rejected(error: string): ReviewStatus {
  return { user: {}, error };
}

function userOf(claims: ServiceAccountClaims): Record<string, unknown> {
  const { namespace, serviceaccount, pod, node } = claims['kubernetes.io'];
  const extra: Record<string, string[]> = { 'authentication.kubernetes.io/credential-id': [`JTI=${claims.jti}`] };
  for (const [kind, object] of Object.entries({ pod, node })) {
    if (object === undefined) continue;
    extra[`authentication.kubernetes.io/${kind}-name`] = [object.name];
    extra[`authentication.kubernetes.io/${kind}-uid`] = [object.uid];
  }
  return {
    username: claims.sub,
    uid: serviceaccount.uid,
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
    extra,
  };
}

function readSpec(body: string): ReviewSpec | undefined {
  try {
    const { kind, spec } = JSON.parse(body) as { kind?: unknown; spec?: { token?: unknown; audiences?: unknown } };
    if (kind !== 'TokenReview' || typeof spec?.token !== 'string') return undefined;
    return { token: spec.token, audiences: Array.isArray(spec.audiences) ? spec.audiences.map(String) : [] };
  } catch {
    return undefined;
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new Error('body too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function failure(code: number, reason: string, message: string): Record<string, unknown> {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
}

function send(response: ServerResponse, status: number, body: Record<string, unknown>): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}
