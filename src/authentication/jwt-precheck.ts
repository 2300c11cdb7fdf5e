import { readClaims, type UnverifiedClaims } from '../credential/jwt-claims.ts';
import type { Token } from '../credential/token.ts';
import type { Asking, Authority, Verdict } from './token-authenticator.ts';
import type { ClusterKeys, KeyCheck } from '../jwks/cluster-jwks.ts';
import type { RefusalPace } from './rejection-throttle.ts';
import { INVALID_BEARER_TOKEN, refused, sanitize } from './token-review-response.ts';
import { MAX_SKEW_MS, type ServerClock } from './server-clock.ts';

/** What is checked against what the cluster publishes; it only ever refuses. */
export type ClaimCheck = 'expired' | 'not yet valid' | 'audience' | 'signature';

export interface ExaminationOptions {
  readonly keys: ClusterKeys;
  /** Compared with gatecar's: the times of a token are checked here only while the two agree. */
  readonly clock: Pick<ServerClock, 'state' | 'freshUntil'>;
  /** Those that will be asked for; an empty list leaves a token's audiences to the API server, whose own are not known here. */
  readonly audiences: readonly string[];
  /** Whether signatures are checked, or claims alone. */
  readonly signatures: boolean;
  readonly onRefusal?: (check: ClaimCheck) => void;
  /** Where a token that is not known to be good waits for being told its refusal. */
  readonly pace?: RefusalPace;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
}

/** The API server's own leeway of 60 s, and the skew at which times are still checked, in milliseconds. */
const LEEWAY_MS = 60_000 + MAX_SKEW_MS;

/** What is wrong with claims, with the API server's own words for it. */
export interface ClaimRefusal {
  readonly check: Exclude<ClaimCheck, 'signature'>;
  readonly cause: string;
}

/** Nothing in it is the token's own. */
const FORGED = `[${INVALID_BEARER_TOKEN}, go-jose/go-jose: error in cryptographic primitive]`;

const FINE: readonly ClaimRefusal[] = [];

/**
 * All that the API server would refuse in these claims, in the order in which it is told.
 *
 * @param audiences those asked for; an empty list checks none.
 * @param nowMs milliseconds since the epoch.
 */
export function claimRefusals(
  { audiences: own, expiresAtMs, notBeforeMs }: UnverifiedClaims,
  audiences: readonly string[],
  nowMs: number,
): readonly ClaimRefusal[] {
  // An empty list is no audience at all, for which the API server has its own.
  const isForOthers = own?.length && audiences.length > 0 && !audiences.some(audience => own.includes(audience));
  const isOver = expiresAtMs !== undefined && nowMs > expiresAtMs + LEEWAY_MS;
  const isEarly = notBeforeMs !== undefined && nowMs < notBeforeMs - LEEWAY_MS;
  if (!isForOthers && !isOver && !isEarly) return FINE;
  const refusals: ClaimRefusal[] = [];
  if (isForOthers) {
    const cause = `token audiences ${quoted(own)} is invalid for the target audiences ${quoted(audiences)}`;
    refusals.push({ check: 'audience', cause });
  }
  if (isOver) refusals.push({ check: 'expired', cause: 'service account token has expired' });
  if (isEarly) refusals.push({ check: 'not yet valid', cause: 'service account token is not valid yet' });
  return refusals;
}

/**
 * Examines JWTs of the cluster's own issuer before anybody is asked: what the API server would certainly refuse is refused
 * here, with its own text; a good signature chooses the lane. Everything else (opaque tokens, other issuers, keys that
 * are not known) cannot be judged and is asked about. A yes comes from the API server alone.
 */
export function examined(inner: Authority, options: ExaminationOptions): Authority {
  const { keys, clock, audiences, signatures, pace, onRefusal = () => {}, wallClock = Date.now } = options;

  const refuse = (token: Token, { check, cause }: ClaimRefusal): Verdict => {
    onRefusal(check);
    // The token's own words are in it: whoever made it up chose them.
    const verdict = refused('token_rejected', sanitize(`[${INVALID_BEARER_TOKEN}, ${cause}]`, token));
    return check === 'audience' ? verdict : { ...verdict, keepUntil: clock.freshUntil };
  };

  /** Junk waits for being told; a fault is told at once, since somebody good may wait for it. */
  const tell = (verdict: Verdict, asking: Asking): Verdict | Promise<Verdict> => {
    const isFault = verdict.kind === 'unavailable' && verdict.reason !== 'overloaded';
    if (verdict.kind === 'accepted' || isFault) return verdict;
    // Its signal is made when it is asked for.
    return pace?.protecting ? (pace.turn(asking.signal)?.then(() => verdict) ?? verdict) : verdict;
  };
  const ask = async (token: Token, asking: Asking): Promise<Verdict> => tell(await inner.review(token, asking), asking);

  const heed = (check: KeyCheck, token: Token, asking: Asking): Verdict | Promise<Verdict> => {
    if (check === 'bad') {
      onRefusal('signature');
      // One object for each: the failure limit takes the same one for the same failure, told to many.
      return tell({ ...refused('token_rejected', FORGED), keepUntil: keys.confirmedUntil }, asking);
    }
    if (check === 'unknown') return ask(token, asking);
    pace?.good();
    return inner.review(token, { ...asking, lane: 'verified' });
  };

  const checkSignature = (token: Token, asking: Asking): Verdict | Promise<Verdict> => {
    if (!signatures) return ask(token, asking);
    const check = keys.verify(token);
    return check instanceof Promise ? check.then(one => heed(one, token, asking)) : heed(check, token, asking);
  };

  /** Fetches from the API server to learn its time, if no recent response has told it. */
  const checkTimes = async (token: Token, claims: UnverifiedClaims, asking: Asking): Promise<Verdict> => {
    if (clock.state === 'unknown') await keys.fetchAgain();
    const [refusal] = clock.state === 'agrees' ? claimRefusals(claims, audiences, wallClock()) : FINE;
    return refusal === undefined ? checkSignature(token, asking) : tell(refuse(token, refusal), asking);
  };

  return {
    review(token, asking: Asking = {}) {
      // Known as good before, and nobody waits: only the API server has something new to say.
      if (asking.lane === 'refresh') return inner.review(token, asking);
      keys.refresh();
      const { issuer } = keys;
      const claims = issuer === undefined ? undefined : readClaims(token);
      if (claims === undefined || claims.issuer !== issuer) return ask(token, asking);
      const [refusal] = claimRefusals(claims, audiences, wallClock());
      if (refusal === undefined) return checkSignature(token, asking);
      const isCertain = refusal.check === 'audience' || clock.state === 'agrees';
      return isCertain ? tell(refuse(token, refusal), asking) : checkTimes(token, claims, asking);
    },
  };
}

/** As Go prints a list of strings with `%q`. */
function quoted(items: readonly string[]): string {
  return `[${items.map(item => JSON.stringify(item)).join(' ')}]`;
}
