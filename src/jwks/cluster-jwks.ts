import { revealToken, type Token } from '../credential/token.ts';
import { KubeApiError } from '../kube/api-client.ts';
import type { SignatureCheck } from './jws-verifier.ts';
import { keySets } from './key-sets.ts';
import { DISCOVERY_PATH, type GetDocument, getDocument, JWKS_PATH, readIssuer } from './published-documents.ts';

/**
 * The shortest time between two fetches, in milliseconds. Applies to unknown keys and after a fetch
 * that failed.
 */
const ASK_EVERY_MS = 10_000;

/**
 * The shortest time between two fetches that confirm a rejection, in milliseconds. Fetched keys
 * confirm rejections for the same time. A rejection is therefore always either confirmed or able to
 * start a fetch.
 */
const CONFIRM_EVERY_MS = 500;

/** How many tokens may wait at once. Further ones do not wait: the API server reviews them. */
const MAX_WAITING = 256;

/** The result of checking a token's signature with the published keys. */
export type KeyCheckResult = 'good' | 'bad' | 'unknown';

/**
 * What the cluster publishes about the tokens it signs (OpenID Connect Discovery 1.0 §4, RFC 7517).
 */
export interface ClusterJwks {
  /** The issuer of the cluster's ServiceAccount tokens; `undefined` until it has been fetched. */
  readonly issuer: string | undefined;
  /** Whether there is a key to verify with. */
  readonly held: boolean;
  /**
   * Checks a signature. Keys that were fetched within the last half second confirm a `bad` result.
   * Older keys are fetched again first, because an external signer may reuse a `kid` for another
   * key.
   *
   * The result is `unknown` if it is not certain: there are no keys, none has the token's `kid`,
   * the form is not supported, or the keys cannot be confirmed.
   *
   * @returns a promise if the check or the fetch takes time.
   */
  verify(token: Token): KeyCheckResult | Promise<KeyCheckResult>;
  /** Until when a `bad` result is confirmed, in milliseconds on the monotonic clock. */
  readonly confirmedUntil: number;
  /** Fetches the documents if their lifetime is over. The caller does not wait. */
  refresh(): void;
  /**
   * Fetches the keys again, unless that was done within the last half second.
   *
   * @returns a promise that settles when the fetch ends or the wait takes too long. `undefined` if
   *   there is nothing to wait for or too many tokens wait.
   */
  fetchAgain(): Promise<void> | undefined;
}

export interface ClusterJwksOptions {
  readonly get: GetDocument;
  /** Whether the keys are fetched too, or only the issuer. */
  readonly withKeys: boolean;
  /** Called after each fetch. `problem` says in gatecar's own words why the fetch failed. */
  readonly onFetch?: (problem: string | undefined) => void;
  /**
   * How long a token waits for keys that confirm its rejection, in milliseconds. After that, the
   * API server reviews it.
   */
  readonly maxWaitMs: number;
  /** A monotonic clock in milliseconds. */
  readonly now?: () => number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
}

/**
 * Creates a cache of the documents that the cluster publishes. They are fetched again in these
 * cases:
 *
 * - Their lifetime is over.
 * - A token names an unknown key (a rotation): at most every ten seconds.
 * - A bad signature is to be confirmed: at most twice a second.
 *
 * Forged tokens cause no more fetches than that. If a fetch fails, the previous keys stay in use,
 * but no longer confirm a rejection.
 */
export function createClusterJwks(options: ClusterJwksOptions): ClusterJwks {
  const { get, withKeys, onFetch = () => {}, now = () => performance.now(), maxWaitMs } = options;
  const { setTimer = (callback, ms) => setTimeout(callback, ms).unref() } = options;
  const keys = keySets(now);
  let issuer: string | undefined;
  let issuerUntil = Number.NEGATIVE_INFINITY;
  let currentUntil = Number.NEGATIVE_INFINITY;
  let confirmedUntil = Number.NEGATIVE_INFINITY;
  let lastFetch = { startedAt: Number.NEGATIVE_INFINITY, running: false, failed: false };
  let fetched: Promise<void> | undefined;
  let waiting = 0;

  const fetch = async (): Promise<void> => {
    const isIssuerDue = issuer === undefined || !withKeys || now() >= issuerUntil;
    const discovery = isIssuerDue ? await getDocument(get, DISCOVERY_PATH) : undefined;
    const found = discovery && { issuer: readIssuer(discovery.body), until: now() + discovery.lifetimeMs };
    const askedAt = now();
    const jwks = withKeys ? await getDocument(get, JWKS_PATH) : undefined;
    if (jwks !== undefined) keys.publish(jwks.body);
    if (found !== undefined) ({ issuer, until: issuerUntil } = found);
    confirmedUntil = askedAt + CONFIRM_EVERY_MS;
    currentUntil = Math.min(issuerUntil, jwks === undefined ? issuerUntil : now() + jwks.lifetimeMs);
  };

  const ask = (everyMs: number): void => {
    if (lastFetch.running || now() < lastFetch.startedAt + (lastFetch.failed ? ASK_EVERY_MS : everyMs)) return;
    const thisFetch = { startedAt: now(), running: true, failed: false };
    lastFetch = thisFetch;
    const { promise, resolve } = Promise.withResolvers<void>();
    fetched = promise;
    const letGo = (): void => {
      if (fetched === promise) fetched = undefined;
      resolve();
    };
    setTimer(letGo, maxWaitMs);
    const end = (problem: string | undefined): void => {
      thisFetch.running = false;
      thisFetch.failed = problem !== undefined;
      letGo();
      onFetch(problem);
    };
    fetch().then(
      () => end(undefined),
      error => end(error instanceof KubeApiError ? error.message : 'internal error'),
    );
  };

  const fetchAgain = (): Promise<void> | undefined => {
    ask(CONFIRM_EVERY_MS);
    if (fetched === undefined || waiting >= MAX_WAITING) return undefined;
    waiting += 1;
    return fetched.then(() => {
      waiting -= 1;
    });
  };

  const confirmBad = async (token: Token, revision: number): Promise<KeyCheckResult> => {
    if (now() >= confirmedUntil) {
      await fetchAgain();
      if (now() >= confirmedUntil) return 'unknown';
    }
    // All waiting tokens continue at the same time, and checking them again would block the event
    // loop. That is necessary only if the keys have changed.
    const check = keys.revision === revision ? 'bad' : await keys.check(revealToken(token));
    if (check !== 'bad') return toResult(check);
    return (await keys.isOfReplaced(revealToken(token))) ? 'unknown' : 'bad';
  };
  const judge = (check: SignatureCheck, token: Token, revision: number): KeyCheckResult | Promise<KeyCheckResult> => {
    // The key may be new after a rotation.
    if (check === 'unknown key') ask(ASK_EVERY_MS);
    if (check !== 'bad') return toResult(check);
    const isConfirmed = now() < confirmedUntil && keys.revision === revision && !keys.haveChanged;
    return isConfirmed ? 'bad' : confirmBad(token, revision);
  };

  return {
    get issuer() {
      return issuer;
    },
    get held() {
      return keys.usable;
    },
    get confirmedUntil() {
      return confirmedUntil;
    },
    refresh() {
      if (now() >= currentUntil) ask(ASK_EVERY_MS);
    },
    fetchAgain,
    verify(token) {
      const { revision } = keys;
      const check = keys.check(revealToken(token));
      return check instanceof Promise ? check.then(one => judge(one, token, revision)) : judge(check, token, revision);
    },
  };
}

function toResult(check: SignatureCheck): KeyCheckResult {
  return check === 'good' || check === 'bad' ? check : 'unknown';
}
