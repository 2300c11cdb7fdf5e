import { readClaims, type UnverifiedClaims } from '../credential/jwt-claims.ts';
import type { Token } from '../credential/token.ts';
import type { ClusterJwks, KeyCheckResult } from '../jwks/cluster-jwks.ts';
import type { RejectionThrottle } from './rejection-throttle.ts';
import { MAX_SKEW_MS, type ServerClock } from './server-clock.ts';
import type { AuthResult, ReviewContext, TokenAuthenticator } from './token-authenticator.ts';
import { INVALID_BEARER_TOKEN, rejected, sanitizeErrorMessage } from './token-review-response.ts';

/** What is checked against what the cluster publishes; it only ever refuses. */
export type ClaimCheck = 'expired' | 'not yet valid' | 'audience' | 'signature';

export interface JwtPrecheckOptions {
  readonly keys: ClusterJwks;
  /** Compared with gatecar's: the times of a token are checked here only while the two agree. */
  readonly clock: Pick<ServerClock, 'state' | 'freshUntil'>;
  /** Those that will be asked for; an empty list leaves a token's audiences to the API server, whose own are not known here. */
  readonly audiences: readonly string[];
  /** Whether signatures are checked, or claims alone. */
  readonly signatures: boolean;
  readonly onRefusal?: (check: ClaimCheck) => void;
  /** Where a token that is not known to be good waits for being told its refusal. */
  readonly pace?: RejectionThrottle;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
}

/** The API server's own leeway of 60 s, and the skew at which times are still checked, in milliseconds. */
const LEEWAY_MS = 60_000 + MAX_SKEW_MS;

/** What is wrong with claims, with the API server's own words for it. */
export interface ClaimViolation {
  readonly check: Exclude<ClaimCheck, 'signature'>;
  readonly cause: string;
}

/** Nothing in it is the token's own. */
const INVALID_SIGNATURE = `[${INVALID_BEARER_TOKEN}, go-jose/go-jose: error in cryptographic primitive]`;

const NO_VIOLATIONS: readonly ClaimViolation[] = [];

/**
 * All that the API server would refuse in these claims, in the order in which it is told.
 *
 * @param audiences those asked for; an empty list checks none.
 * @param nowMs milliseconds since the epoch.
 */
export function findClaimViolations(
  { audiences: own, expiresAtMs, notBeforeMs }: UnverifiedClaims,
  audiences: readonly string[],
  nowMs: number,
): readonly ClaimViolation[] {
  // An empty list is no audience at all, for which the API server has its own.
  const isForOthers = own?.length && audiences.length > 0 && !audiences.some(audience => own.includes(audience));
  const isOver = expiresAtMs !== undefined && nowMs > expiresAtMs + LEEWAY_MS;
  const isEarly = notBeforeMs !== undefined && nowMs < notBeforeMs - LEEWAY_MS;
  if (!isForOthers && !isOver && !isEarly) return NO_VIOLATIONS;
  const refusals: ClaimViolation[] = [];
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
 * here, with its own text; a good signature chooses the priority. Everything else (opaque tokens, other issuers, keys that
 * are not known) cannot be judged and is asked about. A yes comes from the API server alone.
 */
export function withJwtPrecheck(inner: TokenAuthenticator, options: JwtPrecheckOptions): TokenAuthenticator {
  const { keys, clock, audiences, signatures, pace, onRefusal = () => {}, wallClock = Date.now } = options;

  const refuse = (token: Token, { check, cause }: ClaimViolation): AuthResult => {
    onRefusal(check);
    // The token's own words are in it: whoever made it up chose them.
    const verdict = rejected('token_rejected', sanitizeErrorMessage(`[${INVALID_BEARER_TOKEN}, ${cause}]`, token));
    return check === 'audience' ? verdict : { ...verdict, keepUntil: clock.freshUntil };
  };

  /** Junk waits for being told; a fault is told at once, since somebody good may wait for it. */
  const tell = (verdict: AuthResult, asking: ReviewContext): AuthResult | Promise<AuthResult> => {
    const isFault = verdict.kind === 'unavailable' && verdict.reason !== 'overloaded';
    if (verdict.kind === 'authenticated' || isFault) return verdict;
    // Its signal is made when it is asked for.
    return pace?.protecting ? (pace.waitForSlot(asking.signal)?.then(() => verdict) ?? verdict) : verdict;
  };
  const ask = async (token: Token, asking: ReviewContext): Promise<AuthResult> =>
    tell(await inner.authenticate(token, asking), asking);

  const heed = (check: KeyCheckResult, token: Token, asking: ReviewContext): AuthResult | Promise<AuthResult> => {
    if (check === 'bad') {
      onRefusal('signature');
      // One object for each: the failure limit takes the same one for the same failure, told to many.
      return tell({ ...rejected('token_rejected', INVALID_SIGNATURE), keepUntil: keys.confirmedUntil }, asking);
    }
    if (check === 'unknown') return ask(token, asking);
    pace?.noteValidTraffic();
    return inner.authenticate(token, { ...asking, priority: 'verified' });
  };

  const checkSignature = (token: Token, asking: ReviewContext): AuthResult | Promise<AuthResult> => {
    if (!signatures) return ask(token, asking);
    const check = keys.verify(token);
    return check instanceof Promise ? check.then(one => heed(one, token, asking)) : heed(check, token, asking);
  };

  /** Fetches from the API server to learn its time, if no recent response has told it. */
  const checkTimes = async (token: Token, claims: UnverifiedClaims, asking: ReviewContext): Promise<AuthResult> => {
    if (clock.state === 'unknown') await keys.fetchAgain();
    const [refusal] = clock.state === 'agrees' ? findClaimViolations(claims, audiences, wallClock()) : NO_VIOLATIONS;
    return refusal === undefined ? checkSignature(token, asking) : tell(refuse(token, refusal), asking);
  };

  return {
    authenticate(token, asking: ReviewContext = {}) {
      // Known as good before, and nobody waits: only the API server has something new to say.
      if (asking.priority === 'refresh') return inner.authenticate(token, asking);
      keys.refresh();
      const { issuer } = keys;
      const claims = issuer === undefined ? undefined : readClaims(token);
      if (claims === undefined || claims.issuer !== issuer) return ask(token, asking);
      const [refusal] = findClaimViolations(claims, audiences, wallClock());
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
