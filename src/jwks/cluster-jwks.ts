import { revealToken, type Token } from '../credential/token.ts';
import { JWKS_CONFIRM_EVERY_MS, JWKS_FETCH_EVERY_MS } from '../limits/constants.ts';
import { createFetchSchedule, type FetchScheduleOptions } from './fetch-schedule.ts';
import type { SignatureCheck } from './jws-verifier.ts';
import { keySets } from './key-sets.ts';
import { DISCOVERY_PATH, type GetDocument, getDocument, JWKS_PATH, readIssuer } from './published-documents.ts';

/** The result of checking a token's signature with the published keys. */
export type KeyCheckResult = 'valid' | 'invalid' | 'unknown';

/**
 * What the cluster publishes about the tokens it signs (OpenID Connect Discovery 1.0 §4, RFC 7517).
 */
export interface ClusterJwks {
  /** The issuer of the cluster's ServiceAccount tokens; `undefined` until it has been fetched. */
  readonly issuer: string | undefined;
  /** Whether there is a key to verify with. */
  readonly hasKeys: boolean;
  /**
   * Checks a signature. Keys that were fetched within the last half second confirm an `invalid`
   * result. Older keys are fetched again first, because an external signer may reuse a `kid` for
   * another key.
   *
   * The result is `unknown` if it is not certain: there are no keys, none has the token's `kid`,
   * the form is not supported, or the keys cannot be confirmed.
   *
   * @returns a promise if the check or the fetch takes time.
   */
  verify(token: Token): KeyCheckResult | Promise<KeyCheckResult>;
  /** Until when an `invalid` result is confirmed, in milliseconds on the monotonic clock. */
  readonly confirmedUntil: number;
  /** Fetches the documents if their lifetime is over. The caller does not wait. */
  refresh(): void;
  /**
   * Fetches the keys again, unless a fetch runs, started within the last half second, or failed
   * within the last ten seconds.
   *
   * @returns a promise that settles when the fetch ends or the wait takes too long. `undefined` if
   *   there is nothing to wait for or too many tokens wait.
   */
  fetchAgain(): Promise<void> | undefined;
}

export interface ClusterJwksOptions extends FetchScheduleOptions {
  readonly get: GetDocument;
  /** Whether the keys are fetched too, or only the issuer. */
  readonly withKeys: boolean;
}

/**
 * Creates a cache of the documents that the cluster publishes. They are fetched again in these
 * cases:
 *
 * - Their lifetime is over.
 * - A token names an unknown key (a rotation): at most every ten seconds.
 * - An invalid signature is to be confirmed: at most twice a second.
 *
 * Tokens with invalid signatures cause no more fetches than that. If a fetch fails, the previous
 * keys stay in use, but no longer confirm a rejection.
 */
export function createClusterJwks(options: ClusterJwksOptions): ClusterJwks {
  const { get, withKeys, now = () => performance.now() } = options;
  const keys = keySets(now);
  let issuer: string | undefined;
  let issuerUntil = Number.NEGATIVE_INFINITY;
  let currentUntil = Number.NEGATIVE_INFINITY;
  let confirmedUntil = Number.NEGATIVE_INFINITY;

  const fetch = async (): Promise<void> => {
    const isIssuerDue = issuer === undefined || !withKeys || now() >= issuerUntil;
    const discovery = isIssuerDue ? await getDocument(get, DISCOVERY_PATH) : undefined;
    const found = discovery && { issuer: readIssuer(discovery.body), until: now() + discovery.lifetimeMs };
    const requestedAt = now();
    const jwks = withKeys ? await getDocument(get, JWKS_PATH) : undefined;
    if (jwks !== undefined) keys.publish(jwks.body);
    if (found !== undefined) ({ issuer, until: issuerUntil } = found);
    confirmedUntil = requestedAt + JWKS_CONFIRM_EVERY_MS;
    currentUntil = Math.min(issuerUntil, jwks === undefined ? issuerUntil : now() + jwks.lifetimeMs);
  };
  const fetches = createFetchSchedule(fetch, options);

  const confirmInvalid = async (token: Token, revision: number): Promise<KeyCheckResult> => {
    if (now() >= confirmedUntil) await fetches.fetchAgain();
    if (now() >= confirmedUntil) return 'unknown';
    // All waiting tokens continue at the same time, and checking them again would block the event
    // loop. That is necessary only if the keys have changed.
    const check = keys.revision === revision ? 'invalid' : await keys.check(revealToken(token));
    if (check !== 'invalid') return toResult(check);
    return (await keys.isSignedByReplacedKey(revealToken(token))) ? 'unknown' : 'invalid';
  };
  const confirm = (check: SignatureCheck, token: Token, revision: number): KeyCheckResult | Promise<KeyCheckResult> => {
    // The key may be new after a rotation.
    if (check === 'unknown key') fetches.fetchIfDue(JWKS_FETCH_EVERY_MS);
    if (check !== 'invalid') return toResult(check);
    const isConfirmed = now() < confirmedUntil && keys.revision === revision && !keys.changedRecently;
    return isConfirmed ? 'invalid' : confirmInvalid(token, revision);
  };

  return {
    get issuer() {
      return issuer;
    },
    get hasKeys() {
      return keys.hasKeys;
    },
    get confirmedUntil() {
      return confirmedUntil;
    },
    refresh() {
      if (now() >= currentUntil) fetches.fetchIfDue(JWKS_FETCH_EVERY_MS);
    },
    fetchAgain: fetches.fetchAgain,
    verify(token) {
      const { revision } = keys;
      const check = keys.check(revealToken(token));
      if (check instanceof Promise) return check.then(result => confirm(result, token, revision));
      return confirm(check, token, revision);
    },
  };
}

function toResult(check: SignatureCheck): KeyCheckResult {
  return check === 'valid' || check === 'invalid' ? check : 'unknown';
}
