import { redact, redactor, repeatsToken } from '../credential/redaction.ts';
import type { Token } from '../credential/token.ts';
import { encodeValue } from '../identity/header-encoding.ts';
import { type Identity, toIdentity, type UserInfo } from '../identity/identity.ts';
import type { HttpResponse } from '../kube/http-request.ts';
import { type AuthResult, type Rejected, unavailable } from './token-authenticator.ts';

/** The API server's own text for a token that none of its authenticators knows. */
export const INVALID_BEARER_TOKEN = 'invalid bearer token';

const MAX_DETAIL_LENGTH = 512;
/** Shorter tokens (of token files for trying things out) are in other words by chance. */
const MIN_SECRET_LENGTH = 16;
const MAX_RETRY_AFTER_SECONDS = 60;

/**
 * Reads the answer to a TokenReview request (authentication.k8s.io/v1).
 *
 * Only a 200 or 201 with a `TokenReview` that has a well-formed status is about the token. All else is about us, the API
 * server or what stands between, and becomes `unavailable`, never a verdict.
 *
 * @param audiences those asked for; the answer counts only if it confirms one of them, since an API server or webhook that
 *   does not know audiences answers `authenticated: true` and means "for the API server".
 */
export function parseTokenReviewResponse(answer: HttpResponse, token: Token, audiences: readonly string[]): AuthResult {
  if (answer.status !== 200 && answer.status !== 201) return toUnavailable(answer);
  const status = statusOf(parseObject(answer.body));
  if (status === undefined) return unavailable('not a TokenReview');
  if (!status.authenticated) {
    return rejected('token_rejected', sanitizeErrorMessage(status.error, token) || 'Token not authenticated');
  }
  const accepted = acceptedAudiences(status.audiences, audiences);
  if (accepted === undefined) return rejected('audience_mismatch', '');
  if (status.user === undefined) return rejected('user_missing', '');
  // The API server takes an empty or absent credential for its anonymous user and says "authenticated".
  if (isAnonymous(status.user)) return rejected('token_rejected', INVALID_BEARER_TOKEN);
  const identity = toIdentity(status.user, accepted);
  if (containsToken(identity, token)) return unavailable('not a TokenReview');
  return { kind: 'authenticated', identity };
}

/** A refusal of the token. */
export function rejected(reason: Rejected['reason'], detail: string): Rejected {
  return { kind: 'rejected', reason, detail };
}

function toUnavailable(answer: HttpResponse): AuthResult {
  const retryAfter = Math.min(answer.retryAfterSeconds ?? 1, MAX_RETRY_AFTER_SECONDS);
  switch (answer.status) {
    case 401:
      return unavailable('unauthorized', retryAfter);
    case 403:
      return unavailable('forbidden', retryAfter);
    case 429:
      return unavailable('too many requests', retryAfter);
    default:
      return unavailable(answer.status >= 500 ? 'server error' : 'unexpected status', retryAfter);
  }
}

interface ReviewStatus {
  readonly authenticated: boolean;
  readonly error: string;
  readonly audiences: readonly string[];
  readonly user: UserInfo | undefined;
}

/** @returns `undefined` for anything that is not a v1 TokenReview with a status of the right types. */
function statusOf(review: Record<string, unknown> | undefined): ReviewStatus | undefined {
  if (review?.['kind'] !== 'TokenReview' || review['apiVersion'] !== 'authentication.k8s.io/v1') return undefined;
  const status = asObject(review['status']);
  if (status === undefined) return undefined;
  // The API server leaves false and empty values out.
  const { authenticated = false, error = '', audiences = [] } = status;
  if (typeof authenticated !== 'boolean' || typeof error !== 'string' || !isStrings(audiences)) return undefined;
  if (!authenticated) return { authenticated, error, audiences, user: undefined };
  const user = status['user'] === undefined || status['user'] === null ? undefined : userOf(status['user']);
  return user === 'invalid' ? undefined : { authenticated, error, audiences, user };
}

/** @returns `undefined` for a user without a name, which is no user; `invalid` for wrong types. */
function userOf(value: unknown): UserInfo | undefined | 'invalid' {
  const user = asObject(value);
  if (user === undefined) return 'invalid';
  const { username = '', uid = '' } = user;
  const groups = user['groups'] ?? [];
  const extra = asObject(user['extra'] ?? {});
  if (typeof username !== 'string' || typeof uid !== 'string' || !isStrings(groups)) return 'invalid';
  if (extra === undefined || !Object.values(extra).every(isStrings)) return 'invalid';
  return username === '' ? undefined : { username, uid, groups, extra: extra as UserInfo['extra'] };
}

function isAnonymous(user: UserInfo): boolean {
  return user.username === 'system:anonymous' || user.groups.includes('system:unauthenticated');
}

/**
 * Whether a user is named by its own token, as a webhook may do it: headers and logs would carry the token on, and with
 * the token cut out, two users would look alike.
 */
function containsToken(identity: Identity, token: Token): boolean {
  if (token.length < MIN_SECRET_LENGTH) return false;
  const holds = (value: unknown): boolean =>
    typeof value === 'string'
      ? value.length >= MIN_SECRET_LENGTH && repeatsToken(value, token)
      : Array.isArray(value) && value.some(holds);
  return Object.values(identity).some(holds);
}

function acceptedAudiences(confirmed: readonly string[], asked: readonly string[]): readonly string[] | undefined {
  if (asked.length === 0) return confirmed;
  const accepted = asked.filter(audience => confirmed.includes(audience));
  // One list for all verdicts that are kept.
  if (accepted.length === asked.length) return asked;
  return accepted.length > 0 ? accepted : undefined;
}

/** One bounded line of printable ASCII that repeats no token, the caller's or ours, whatever the API server or the token says. */
export function sanitizeErrorMessage(text: string, token: Token): string {
  const withoutToken = token.length < MIN_SECRET_LENGTH ? redact : redactor(token);
  const line = encodeValue(withoutToken(text).trim());
  // A copy: a part of a string holds on to all of it, and a verdict is kept.
  return Buffer.from(line.slice(0, MAX_DETAIL_LENGTH), 'latin1').toString('latin1');
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    // The parse error quotes the body, which repeats the token.
    return undefined;
  }
}

function asObject(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string');
}
