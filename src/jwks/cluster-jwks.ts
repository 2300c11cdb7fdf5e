import { revealToken, type Token } from '../credential/token.ts';
import { KubeApiError } from '../kube/api-client.ts';
import type { SignatureCheck } from './jws-verifier.ts';
import { keySets } from './key-sets.ts';
import { DISCOVERY_PATH, type GetDocument, getDocument, JWKS_PATH, readIssuer } from './published-documents.ts';

/** The least time between two fetches, in milliseconds: for a key that is not known, and after a fetch that failed. */
const ASK_EVERY_MS = 10_000;

/**
 * The least time between two fetches that confirm a rejection, in milliseconds. This is also how long a fetched key
 * confirms one, so there is no time at which a rejection is neither confirmed nor leads to a fetch.
 */
const CONFIRM_EVERY_MS = 500;

/** How many tokens wait at once. Further ones do not wait: the API server is asked about them. */
const MAX_WAITING = 256;

/** What the keys say of a token. */
export type KeyCheckResult = 'good' | 'bad' | 'unknown';

/** What the cluster publishes about the tokens it signs (OpenID Connect Discovery 1.0 §4, RFC 7517). */
export interface ClusterJwks {
  /** The issuer of the cluster's ServiceAccount tokens; `undefined` while it is not known. */
  readonly issuer: string | undefined;
  /** Whether there are keys to verify with. */
  readonly held: boolean;
  /**
   * Checks a signature. `bad` is confirmed by keys that were fetched within the last half second; older ones are fetched
   * again first, for an external signer may use a `kid` again for another key. `unknown` if nothing is certain: there
   * are no keys, none of that name, an unread form, or keys that cannot be confirmed.
   *
   * @returns a promise if the check, or the fetch, takes time.
   */
  verify(token: Token): KeyCheckResult | Promise<KeyCheckResult>;
  /** Until when a check of `bad` is confirmed, in milliseconds on the monotonic clock. */
  readonly confirmedUntil: number;
  /** Fetches the documents if they have aged. The caller does not wait. */
  refresh(): void;
  /**
   * Fetches the keys again, unless that was done within the last half second.
   *
   * @returns a promise that settles when they have come, or it has taken too long; `undefined` if there is nothing to wait for.
   */
  fetchAgain(): Promise<void> | undefined;
}

export interface ClusterJwksOptions {
  readonly get: GetDocument;
  /** Whether the keys are wanted too, or the issuer alone. */
  readonly withKeys: boolean;
  /** Told each time the documents were asked for; `problem` says in our own words why they could not be had. */
  readonly onFetch?: (problem: string | undefined) => void;
  /** How long a token waits for keys that confirm its rejection, in milliseconds; then the API server is asked about it. */
  readonly maxWaitMs: number;
  /** Milliseconds on a clock that never goes back. */
  readonly now?: () => number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
}

/**
 * Holds what was last published. It is fetched again when it has aged; for a key that is not known (a rotation), at most
 * every ten seconds; and to confirm that a signature is bad, at most twice a second. Made-up tokens cause no more fetches
 * than that. If a fetch fails, the previous keys stay, but no longer confirm a rejection.
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
    // All that have waited go on at once: checking them again would hold the event loop, and is due only for other keys.
    const check = keys.revision === revision ? 'bad' : await keys.check(revealToken(token));
    if (check !== 'bad') return toResult(check);
    return (await keys.isOfReplaced(revealToken(token))) ? 'unknown' : 'bad';
  };
  const judge = (check: SignatureCheck, token: Token, revision: number): KeyCheckResult | Promise<KeyCheckResult> => {
    // A rotation, perhaps.
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
