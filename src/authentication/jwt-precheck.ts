import { readClaims, type UnverifiedClaims } from '../credential/jwt-claims.ts';
import type { Token } from '../credential/token.ts';
import type { ClusterJwks, KeyCheckResult } from '../jwks/cluster-jwks.ts';
import { MAX_SKEW_MS } from '../limits/constants.ts';
import type { ServerClock } from './server-clock.ts';
import type { AuthResult, ReviewContext, TokenAuthenticator } from './token-authenticator.ts';
import { INVALID_BEARER_TOKEN, rejected, sanitizeErrorMessage } from './token-review-response.ts';

/** A local check of a JWT: its times, its audience or its signature. It can only reject. */
export type ClaimCheck = 'expired' | 'not_yet_valid' | 'audience' | 'signature';

export interface JwtPrecheckOptions {
  readonly keys: ClusterJwks;
  /**
   * The API server's clock. A token's times are checked locally only while it agrees with
   * gatecar's.
   */
  readonly clock: Pick<ServerClock, 'state' | 'freshUntil'>;
  /**
   * The audiences that the review requests. If empty, only the API server checks a token's
   * audiences, because gatecar does not know the API server's own.
   */
  readonly audiences: readonly string[];
  /** Whether signatures are checked too, or only claims. */
  readonly signatures: boolean;
  readonly onViolation?: (check: ClaimCheck) => void;
  /** Called for each token with a valid signature. */
  readonly onVerified?: (token: Token) => void;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
}

/**
 * The API server's leeway of 60 s plus the largest skew at which times are checked, in
 * milliseconds.
 */
const LEEWAY_MS = 60_000 + MAX_SKEW_MS;

/** What is wrong with the claims. `cause` is the API server's text for it. */
export interface ClaimViolation {
  readonly check: Exclude<ClaimCheck, 'signature'>;
  readonly cause: string;
}

/** The API server's text for a bad signature. It quotes nothing from the token. */
const INVALID_SIGNATURE = `[${INVALID_BEARER_TOKEN}, go-jose/go-jose: error in cryptographic primitive]`;

const NO_VIOLATIONS: readonly ClaimViolation[] = [];

/**
 * Lists the claims that the API server would reject, in the order in which they are reported.
 *
 * @param audiences the requested audiences; an empty list checks none.
 * @param nowMs milliseconds since the epoch.
 */
export function findClaimViolations(
  { audiences: accepted, expiresAtMs, notBeforeMs }: UnverifiedClaims,
  audiences: readonly string[],
  nowMs: number,
): readonly ClaimViolation[] {
  // The API server treats an empty list as absent and then assumes its own audiences.
  const isForOtherAudiences =
    accepted?.length && audiences.length > 0 && !audiences.some(audience => accepted.includes(audience));
  const isExpired = expiresAtMs !== undefined && nowMs > expiresAtMs + LEEWAY_MS;
  const isEarly = notBeforeMs !== undefined && nowMs < notBeforeMs - LEEWAY_MS;
  if (!isForOtherAudiences && !isExpired && !isEarly) return NO_VIOLATIONS;
  const violations: ClaimViolation[] = [];
  if (isForOtherAudiences) {
    const cause = `token audiences ${quoted(accepted)} is invalid for the target audiences ${quoted(audiences)}`;
    violations.push({ check: 'audience', cause });
  }
  if (isExpired) violations.push({ check: 'expired', cause: 'service account token has expired' });
  if (isEarly) violations.push({ check: 'not_yet_valid', cause: 'service account token is not valid yet' });
  return violations;
}

/**
 * Checks JWTs of the cluster's own issuer before a review. If the API server would certainly reject
 * a token, it is rejected locally with the API server's text. A valid signature raises the
 * priority.
 *
 * Other tokens (opaque, from other issuers, with unknown keys) cannot be checked and are reviewed.
 * Only the API server authenticates a token.
 */
export function withJwtPrecheck(inner: TokenAuthenticator, options: JwtPrecheckOptions): TokenAuthenticator {
  const { keys, clock, audiences, signatures, wallClock = Date.now } = options;
  const { onViolation = () => {}, onVerified = () => {} } = options;

  const reject = (token: Token, { check, cause }: ClaimViolation): AuthResult => {
    onViolation(check);
    // The text quotes claims that an attacker may have chosen, so it is sanitized.
    const result = rejected('token_rejected', sanitizeErrorMessage(`[${INVALID_BEARER_TOKEN}, ${cause}]`, token));
    return check === 'audience' ? result : { ...result, keepUntil: clock.freshUntil };
  };

  const apply = (check: KeyCheckResult, token: Token, context: ReviewContext): AuthResult | Promise<AuthResult> => {
    if (check === 'invalid') {
      onViolation('signature');
      // Each rejection is a new object: the failure counter counts an object that requests share
      // only once.
      return { ...rejected('token_rejected', INVALID_SIGNATURE), keepUntil: keys.confirmedUntil };
    }
    if (check === 'unknown') return inner.authenticate(token, context);
    onVerified(token);
    return inner.authenticate(token, { ...context, priority: 'verified' });
  };

  const checkSignature = (token: Token, context: ReviewContext): AuthResult | Promise<AuthResult> => {
    if (!signatures) return inner.authenticate(token, context);
    const check = keys.verify(token);
    return check instanceof Promise ? check.then(one => apply(one, token, context)) : apply(check, token, context);
  };

  /**
   * Checks the claims against the API server's time. If no recent response shows that time, the
   * JWKS is fetched first.
   */
  const recheckTimes = async (token: Token, claims: UnverifiedClaims, context: ReviewContext): Promise<AuthResult> => {
    if (clock.state === 'unknown') await keys.fetchAgain();
    const [violation] = clock.state === 'agrees' ? findClaimViolations(claims, audiences, wallClock()) : NO_VIOLATIONS;
    return violation === undefined ? checkSignature(token, context) : reject(token, violation);
  };

  return {
    authenticate(token, context: ReviewContext = {}) {
      // A refresh: the token was valid before and no client waits. Only the API server can change
      // the result.
      if (context.priority === 'refresh') return inner.authenticate(token, context);
      keys.refresh();
      const { issuer } = keys;
      const claims = issuer === undefined ? undefined : readClaims(token);
      if (claims === undefined || claims.issuer !== issuer) return inner.authenticate(token, context);
      const [violation] = findClaimViolations(claims, audiences, wallClock());
      if (violation === undefined) return checkSignature(token, context);
      const isCertain = violation.check === 'audience' || clock.state === 'agrees';
      return isCertain ? reject(token, violation) : recheckTimes(token, claims, context);
    },
  };
}

/** Formats a list of strings as Go's `%q` does. */
export function quoted(items: readonly string[]): string {
  return `[${items.map(item => JSON.stringify(item)).join(' ')}]`;
}
