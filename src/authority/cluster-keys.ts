import { revealToken, type Token } from '../credential/token.ts';
import { KubeConnectionError } from './kube-connection.ts';
import type { HttpAnswer } from './review-answer.ts';
import { type SignatureCheck, type SigningKeys, signingKeys } from './signing-keys.ts';

export const DISCOVERY_PATH = '/.well-known/openid-configuration';
export const JWKS_PATH = '/openid/v1/jwks';

/** The least time between two questions for the documents, in milliseconds. */
const ASK_EVERY_MS = 10_000;

/** How long they are current where the API server does not say, and the longest whatever it says, in seconds. */
const DEFAULT_LIFETIME_SECONDS = 3600;
const MAX_LIFETIME_SECONDS = 86_400;

/** What the keys say of a token. */
export type KeyCheck = 'good' | 'bad' | 'unknown';

/** What the cluster publishes about the tokens it signs (OpenID Connect Discovery 1.0 §4, RFC 7517). */
export interface ClusterKeys {
  /** The issuer of the cluster's ServiceAccount tokens; `undefined` while it is not known. */
  readonly issuer: string | undefined;
  /** Whether there are keys to verify with. */
  readonly held: boolean;
  /**
   * `unknown` where nothing is certain: no keys are known, none of that name, or a form that we do not read. A key's name is
   * a hash of the key: who names ours and did not sign with it lies, and that is `bad`. A promise where it takes long.
   */
  verify(token: Token): KeyCheck | Promise<KeyCheck>;
  /** Asks for the documents where that is due. Nobody waits for it. */
  refresh(): void;
}

export interface ClusterKeysOptions {
  /** Gets a document of the API server. @throws {KubeConnectionError} where there is no answer. */
  readonly get: (path: string) => Promise<HttpAnswer>;
  /** Whether the keys are wanted too, or the issuer alone. */
  readonly withKeys: boolean;
  /** Told each time the documents were asked for; `problem` says in our own words why they could not be had. */
  readonly onFetch?: (problem: string | undefined) => void;
  /** Milliseconds on a clock that never goes back. */
  readonly now?: () => number;
}

/**
 * Holds what was last published. It is asked for anew when it has aged, and for a key that is not known (a rotation), at
 * most every ten seconds: whoever makes up names of keys must not make us ask for each. While it cannot be had, what was
 * known before stays.
 */
export function clusterKeys(options: ClusterKeysOptions): ClusterKeys {
  const { get, withKeys, onFetch = () => {}, now = () => performance.now() } = options;
  let issuer: string | undefined;
  let keys: SigningKeys | undefined;
  let currentUntil = Number.NEGATIVE_INFINITY;
  let askAgainAt = Number.NEGATIVE_INFINITY;

  const fetch = async (): Promise<void> => {
    const discovery = await document(get, DISCOVERY_PATH);
    const jwks = withKeys ? await document(get, JWKS_PATH) : undefined;
    const published = jwks && keySet(jwks.content);
    issuer = issuerOf(discovery.content);
    keys = published;
    currentUntil = now() + (jwks ?? discovery).lifetimeSeconds * 1000;
  };

  const ask = (): void => {
    if (now() < askAgainAt) return;
    askAgainAt = now() + ASK_EVERY_MS;
    fetch().then(
      () => onFetch(undefined),
      error => onFetch(error instanceof KubeConnectionError ? error.message : 'internal error'),
    );
  };

  return {
    get issuer() {
      return issuer;
    },
    get held() {
      return keys !== undefined && keys.size > 0;
    },
    refresh() {
      if (now() >= currentUntil) ask();
    },
    verify(token) {
      const check = keys?.check(revealToken(token));
      // A rotation, perhaps.
      if (check === 'unknown key') ask();
      return check instanceof Promise ? check.then(certain) : certain(check);
    },
  };
}

function certain(check: SignatureCheck | undefined): KeyCheck {
  return check === 'good' || check === 'bad' ? check : 'unknown';
}

interface Document {
  readonly content: Record<string, unknown>;
  readonly lifetimeSeconds: number;
}

/** @throws {KubeConnectionError} also for an answer that is no such document. */
async function document(get: ClusterKeysOptions['get'], path: string): Promise<Document> {
  const { status, body, maxAgeSeconds = DEFAULT_LIFETIME_SECONDS } = await get(path);
  if (status !== 200) throw new KubeConnectionError('unexpected status', `GET ${path}: HTTP ${status}`);
  let content: unknown;
  try {
    content = JSON.parse(body);
  } catch {
    content = undefined;
  }
  if (typeof content !== 'object' || content === null) throw malformed(path);
  return { content: { ...content }, lifetimeSeconds: Math.min(maxAgeSeconds, MAX_LIFETIME_SECONDS) };
}

function issuerOf({ issuer }: Record<string, unknown>): string {
  if (typeof issuer !== 'string' || issuer === '') throw malformed(DISCOVERY_PATH);
  return issuer;
}

function keySet(jwks: Record<string, unknown>): SigningKeys {
  try {
    return signingKeys(jwks);
  } catch {
    throw malformed(JWKS_PATH);
  }
}

function malformed(path: string): KubeConnectionError {
  return new KubeConnectionError('unexpected status', `GET ${path}: not the document that is expected`);
}
