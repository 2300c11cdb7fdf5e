import { redact, redactor, repeatsToken } from '../credential/redaction.ts';
import type { Token } from '../credential/token.ts';
import { encodeValue } from '../identity/header-encoding.ts';
import { type Identity, toIdentity, type UserInfo } from '../identity/identity.ts';
import type { HttpResponse } from '../kube/http-request.ts';
import { MAX_DETAIL_LENGTH, MAX_RETRY_AFTER_SECONDS, MIN_SECRET_LENGTH } from '../limits/constants.ts';
import { type AuthResult, type Rejected, unavailable } from './token-authenticator.ts';

/** The API server's text for a token that none of its authenticators accepts. */
export const INVALID_BEARER_TOKEN = 'invalid bearer token';

/**
 * Reads the response to a TokenReview request (authentication.k8s.io/v1).
 *
 * Only a 200 or 201 with a `TokenReview` whose status is well-formed is about the token. Any other
 * response is about gatecar, the API server or a proxy, and becomes `unavailable`.
 *
 * @param audiences the requested audiences. The response counts only if it confirms one of them. An
 *   API server or webhook without audience support answers `authenticated: true` for the API
 *   server's own audience.
 */
export function parseTokenReviewResponse(answer: HttpResponse, token: Token, audiences: readonly string[]): AuthResult {
  if (answer.status !== 200 && answer.status !== 201) return toUnavailable(answer);
  const status = statusOf(parseObject(answer.body));
  if (status === undefined) return unavailable('invalid_response');
  if (!status.authenticated) {
    return rejected('token_rejected', sanitizeErrorMessage(status.error, token) || 'Token not authenticated');
  }
  const accepted = acceptedAudiences(status.audiences, audiences);
  if (accepted === undefined) return rejected('audience_mismatch', '');
  if (status.user === undefined) return rejected('user_missing', '');
  // The API server authenticates an empty or absent credential as its anonymous user.
  if (isAnonymous(status.user)) return rejected('token_rejected', INVALID_BEARER_TOKEN);
  const identity = toIdentity(status.user, accepted);
  if (containsToken(identity, token)) return unavailable('invalid_response');
  return { kind: 'authenticated', identity };
}

/** Creates a rejection of the token. */
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
      return unavailable('too_many_requests', retryAfter);
    default:
      return unavailable(answer.status >= 500 ? 'server_error' : 'unexpected_status', retryAfter);
  }
}

interface ReviewStatus {
  readonly authenticated: boolean;
  readonly error: string;
  readonly audiences: readonly string[];
  readonly user: UserInfo | undefined;
}

/**
 * Reads the status of a v1 TokenReview. @returns `undefined` for anything else, and for wrong
 * types.
 */
function statusOf(review: Record<string, unknown> | undefined): ReviewStatus | undefined {
  if (review?.['kind'] !== 'TokenReview' || review['apiVersion'] !== 'authentication.k8s.io/v1') return undefined;
  const status = asObject(review['status']);
  if (status === undefined) return undefined;
  // The API server omits false and empty values.
  const { authenticated = false, error = '', audiences = [] } = status;
  if (typeof authenticated !== 'boolean' || typeof error !== 'string' || !isStrings(audiences)) return undefined;
  if (!authenticated) return { authenticated, error, audiences, user: undefined };
  const user = status['user'] === undefined || status['user'] === null ? undefined : userOf(status['user']);
  return user === 'invalid' ? undefined : { authenticated, error, audiences, user };
}

/**
 * Reads a user. @returns `undefined` if it has no name, `invalid` if a field has the wrong type.
 */
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
 * Whether the identity contains the token, as a webhook may set it. Headers and logs would expose
 * the token. If the token were cut out, two users could look the same.
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
  // All cached results share one list.
  if (accepted.length === asked.length) return asked;
  return accepted.length > 0 ? accepted : undefined;
}

/**
 * Returns one line of printable ASCII, of bounded length. It repeats neither the caller's token nor
 * gatecar's, whatever the API server or the token contains.
 */
export function sanitizeErrorMessage(text: string, token: Token): string {
  const withoutToken = token.length < MIN_SECRET_LENGTH ? redact : redactor(token);
  const line = encodeValue(withoutToken(text).trim());
  // Copies the text: a substring keeps its whole parent string in memory, and results are cached.
  return Buffer.from(line.slice(0, MAX_DETAIL_LENGTH), 'latin1').toString('latin1');
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    // The parse error quotes the body, which repeats the token. It is therefore dropped.
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
