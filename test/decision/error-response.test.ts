import t from 'tap';
import { type Decision, OTHER_SCHEME, type Reason, type UnavailableCause } from '../../src/decision/decision.ts';
import { type ResponseSettings, toErrorResponse } from '../../src/decision/error-response.ts';

type Refusal = Exclude<Decision, { kind: 'allow' }>;

const DEFAULTS: ResponseSettings = { policyDeniedStatus: 401, unavailableStatus: 503, errorDetail: 'full' };

const BEARER = 'Bearer realm="gatecar"';
const INVALID_REQUEST = 'Bearer realm="gatecar", error="invalid_request"';
const INVALID_TOKEN = 'Bearer realm="gatecar", error="invalid_token"';
const INSUFFICIENT_SCOPE = 'Bearer realm="gatecar", error="insufficient_scope"';

/** The contract's table, word by word: what is refused → status, text, challenge. */
const CONTRACT: { readonly [R in Reason]: readonly [Refusal, status: number, text: string, challenge?: string] } = {
  credentials_missing: [
    { kind: 'deny', reason: 'credentials_missing', detail: '' },
    ...([401, 'Missing Authorization header', BEARER] as const),
  ],
  credentials_malformed: [
    { kind: 'deny', reason: 'credentials_malformed', detail: '' },
    ...([401, 'Invalid Authorization header format', INVALID_REQUEST] as const),
  ],
  token_empty: [
    { kind: 'deny', reason: 'token_empty', detail: '' }, //
    ...([401, 'Empty token', INVALID_REQUEST] as const),
  ],
  token_rejected: [
    { kind: 'deny', reason: 'token_rejected', detail: 'Token not authenticated' },
    ...([401, 'Token validation failed: Token not authenticated', INVALID_TOKEN] as const),
  ],
  audience_mismatch: [
    { kind: 'deny', reason: 'audience_mismatch', detail: '' },
    ...([401, 'Token validation failed: token audiences are not accepted', INVALID_TOKEN] as const),
  ],
  user_missing: [
    { kind: 'deny', reason: 'user_missing', detail: '' },
    ...([401, 'Token validation failed: No user information in TokenReview response', INVALID_TOKEN] as const),
  ],
  too_many_failures: [
    { kind: 'deny', reason: 'too_many_failures', detail: '', retryAfterSeconds: 60 },
    ...([401, 'Too many failed attempts', BEARER] as const),
  ],
  namespace_denied: [
    { kind: 'deny', reason: 'namespace_denied', detail: 'kube-system' },
    401,
    'Token validation failed: ServiceAccount from unauthorized namespace: kube-system',
    INSUFFICIENT_SCOPE,
  ],
  service_account_denied: [
    { kind: 'deny', reason: 'service_account_denied', detail: 'system:serviceaccount:default:other' },
    401,
    'Token validation failed: ServiceAccount not authorized: system:serviceaccount:default:other',
    INSUFFICIENT_SCOPE,
  ],
  authority_unavailable: [
    { kind: 'unavailable', reason: 'authority_unavailable', cause: 'timeout', retryAfterSeconds: 1 },
    ...([503, 'TokenReview API call failed: timeout'] as const),
  ],
  overloaded: [
    { kind: 'unavailable', reason: 'overloaded', cause: 'too_many_reviews', retryAfterSeconds: 7 },
    ...([503, 'Too many token reviews in progress'] as const),
  ],
};

const rows = Object.entries(CONTRACT) as [Reason, (typeof CONTRACT)[Reason]][];

for (const [reason, [refusal, status, text, challenge]] of rows) {
  t.test(`${reason} is answered as the contract says`, async t => {
    t.strictSame(toErrorResponse(refusal, DEFAULTS), {
      ...{ status, text, reason, challenge },
      retryAfterSeconds: refusal.retryAfterSeconds,
    });
  });
}

t.test('the status for what the policy denies is a setting, and changes nothing else', async t => {
  const settings: ResponseSettings = { ...DEFAULTS, policyDeniedStatus: 403 };
  for (const [reason, [refusal]] of rows) {
    const isPolicy = reason === 'namespace_denied' || reason === 'service_account_denied';
    const usual = toErrorResponse(refusal, DEFAULTS);
    t.strictSame(toErrorResponse(refusal, settings), isPolicy ? { ...usual, status: 403 } : usual, reason);
  }
});

t.test(
  'the status where nobody could be asked is a setting; a 401 or 403 carries a challenge without an error',
  async t => {
    for (const unavailableStatus of [401, 403] as const) {
      for (const [reason, [refusal]] of rows) {
        const usual = toErrorResponse(refusal, DEFAULTS);
        const expected =
          refusal.kind === 'unavailable' ? { ...usual, status: unavailableStatus, challenge: BEARER } : usual;
        t.strictSame(
          toErrorResponse(refusal, { ...DEFAULTS, unavailableStatus }),
          expected,
          `${reason} ${unavailableStatus}`,
        );
      }
    }
  },
);

t.test('an answer without detail tells the status alone', async t => {
  const settings: ResponseSettings = { policyDeniedStatus: 403, unavailableStatus: 503, errorDetail: 'generic' };
  const texts = { 401: 'Unauthorized', 403: 'Forbidden', 503: 'Service Unavailable' } as const;
  for (const [reason, [refusal]] of rows) {
    const { status, text, reason: told } = toErrorResponse(refusal, settings);
    t.equal(status, toErrorResponse(refusal, { ...settings, errorDetail: 'full' }).status, reason);
    t.equal(text, texts[status], reason);
    t.equal(told, undefined, reason);
  }
  const unauthorized = toErrorResponse(CONTRACT.overloaded[0], { ...settings, unavailableStatus: 401 });
  t.equal(unauthorized.text, 'Unauthorized');
});

t.test('an answer without detail does not tell what the policy denies from what the token is denied for', async t => {
  const settings: ResponseSettings = { ...DEFAULTS, errorDetail: 'generic' };
  const rejected = toErrorResponse(CONTRACT.token_rejected[0], settings);
  t.equal(rejected.challenge, INVALID_TOKEN);
  for (const reason of ['audience_mismatch', 'user_missing', 'namespace_denied', 'service_account_denied'] as const) {
    t.strictSame(toErrorResponse(CONTRACT[reason][0], settings), rejected, reason);
  }
});

t.test('a 403 says insufficient_scope also where no detail is told, as its status tells as much', async t => {
  const settings: ResponseSettings = { ...DEFAULTS, policyDeniedStatus: 403, errorDetail: 'generic' };
  t.equal(toErrorResponse(CONTRACT.namespace_denied[0], settings).challenge, INSUFFICIENT_SCOPE);
});

t.test('an outage is told by its class; where there is no client, in the words of the guide', async t => {
  const text = (cause: UnavailableCause): string =>
    toErrorResponse({ kind: 'unavailable', reason: 'authority_unavailable', cause, retryAfterSeconds: 1 }, DEFAULTS)
      .text;
  t.equal(text('client_unavailable'), 'Failed to create Kubernetes client');
  t.equal(text('connection_refused'), 'TokenReview API call failed: connection refused');
  t.equal(text('invalid_response'), 'TokenReview API call failed: not a TokenReview');
});

t.test('a credential of another scheme is challenged without an error code (RFC 6750 §3.1)', async t => {
  const refusal = { kind: 'deny', reason: 'credentials_malformed', detail: OTHER_SCHEME } as const;
  const told = toErrorResponse(refusal, DEFAULTS);
  t.match(told, { status: 401, text: 'Invalid Authorization header format', challenge: BEARER });
});
