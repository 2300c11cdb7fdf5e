import t from 'tap';
import { type Decision, OTHER_SCHEME, type Reason, type UnavailableCause } from '../../src/decision/decision.ts';
import { type ResponseSettings, toErrorResponse } from '../../src/decision/error-response.ts';

type NotAllowed = Exclude<Decision, { kind: 'allow' }>;

const DEFAULTS: ResponseSettings = { policyDeniedStatus: 401, unavailableStatus: 503, errorDetail: 'full' };

const BEARER = 'Bearer realm="gatecar"';
const INVALID_REQUEST = 'Bearer realm="gatecar", error="invalid_request"';
const INVALID_TOKEN = 'Bearer realm="gatecar", error="invalid_token"';
const INSUFFICIENT_SCOPE = 'Bearer realm="gatecar", error="insufficient_scope"';

/** The table of the contract: decision → status, text and challenge. */
const CONTRACT: { readonly [R in Reason]: readonly [NotAllowed, status: number, text: string, challenge?: string] } = {
  credentials_missing: [
    { kind: 'deny', reason: 'credentials_missing', detail: '' },
    401,
    'Missing Authorization header',
    BEARER,
  ],
  credentials_malformed: [
    { kind: 'deny', reason: 'credentials_malformed', detail: '' },
    401,
    'Invalid Authorization header format',
    INVALID_REQUEST,
  ],
  token_empty: [{ kind: 'deny', reason: 'token_empty', detail: '' }, 401, 'Empty token', INVALID_REQUEST],
  token_rejected: [
    { kind: 'deny', reason: 'token_rejected', detail: 'Token not authenticated' },
    401,
    'Token validation failed: Token not authenticated',
    INVALID_TOKEN,
  ],
  audience_mismatch: [
    { kind: 'deny', reason: 'audience_mismatch', detail: '' },
    401,
    'Token validation failed: token audiences are not accepted',
    INVALID_TOKEN,
  ],
  user_missing: [
    { kind: 'deny', reason: 'user_missing', detail: '' },
    401,
    'Token validation failed: No user information in TokenReview response',
    INVALID_TOKEN,
  ],
  too_many_failures: [
    { kind: 'deny', reason: 'too_many_failures', detail: '', retryAfterSeconds: 60 },
    401,
    'Too many failed attempts',
    BEARER,
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
    503,
    'TokenReview API call failed: timeout',
  ],
  overloaded: [
    { kind: 'unavailable', reason: 'overloaded', cause: 'too_many_reviews', retryAfterSeconds: 7 },
    503,
    'Too many token reviews in progress',
  ],
};

const rows = Object.entries(CONTRACT) as [Reason, (typeof CONTRACT)[Reason]][];

for (const [reason, [decision, status, text, challenge]] of rows) {
  t.test(`the response for ${reason} has the status, text and challenge of the contract`, async t => {
    t.strictSame(toErrorResponse(decision, DEFAULTS), {
      status,
      text,
      reason,
      challenge,
      retryAfterSeconds: decision.retryAfterSeconds,
    });
  });
}

t.test('policyDeniedStatus changes only the status of policy denials', async t => {
  const settings: ResponseSettings = { ...DEFAULTS, policyDeniedStatus: 403 };
  for (const [reason, [decision]] of rows) {
    const isPolicy = reason === 'namespace_denied' || reason === 'service_account_denied';
    const byDefault = toErrorResponse(decision, DEFAULTS);
    t.strictSame(toErrorResponse(decision, settings), isPolicy ? { ...byDefault, status: 403 } : byDefault, reason);
  }
});

t.test(
  'unavailableStatus changes the status of unavailable results, and 401 and 403 add a challenge without an error',
  async t => {
    for (const unavailableStatus of [401, 403] as const) {
      for (const [reason, [decision]] of rows) {
        const byDefault = toErrorResponse(decision, DEFAULTS);
        const expected =
          decision.kind === 'unavailable' ? { ...byDefault, status: unavailableStatus, challenge: BEARER } : byDefault;
        t.strictSame(
          toErrorResponse(decision, { ...DEFAULTS, unavailableStatus }),
          expected,
          `${reason} ${unavailableStatus}`,
        );
      }
    }
  },
);

t.test('with errorDetail generic, the text is the status text and the reason is absent', async t => {
  const settings: ResponseSettings = { policyDeniedStatus: 403, unavailableStatus: 503, errorDetail: 'generic' };
  const texts = { 401: 'Unauthorized', 403: 'Forbidden', 503: 'Service Unavailable' } as const;
  for (const [reason, [decision]] of rows) {
    const { status, text, reason: responseReason } = toErrorResponse(decision, settings);
    t.equal(status, toErrorResponse(decision, { ...settings, errorDetail: 'full' }).status, reason);
    t.equal(text, texts[status], reason);
    t.equal(responseReason, undefined, reason);
  }
  const unauthorized = toErrorResponse(CONTRACT.overloaded[0], { ...settings, unavailableStatus: 401 });
  t.equal(unauthorized.text, 'Unauthorized');
});

t.test('with errorDetail generic, policy denials and token rejections have the same response', async t => {
  const settings: ResponseSettings = { ...DEFAULTS, errorDetail: 'generic' };
  const rejected = toErrorResponse(CONTRACT.token_rejected[0], settings);
  t.equal(rejected.challenge, INVALID_TOKEN);
  for (const reason of ['audience_mismatch', 'user_missing', 'namespace_denied', 'service_account_denied'] as const) {
    t.strictSame(toErrorResponse(CONTRACT[reason][0], settings), rejected, reason);
  }
});

t.test('a 403 has the challenge insufficient_scope even with errorDetail generic', async t => {
  const settings: ResponseSettings = { ...DEFAULTS, policyDeniedStatus: 403, errorDetail: 'generic' };
  t.equal(toErrorResponse(CONTRACT.namespace_denied[0], settings).challenge, INSUFFICIENT_SCOPE);
});

t.test('the text of an unavailable response names its cause, and client_unavailable has its own text', async t => {
  const text = (cause: UnavailableCause): string =>
    toErrorResponse({ kind: 'unavailable', reason: 'authority_unavailable', cause, retryAfterSeconds: 1 }, DEFAULTS)
      .text;
  t.equal(text('client_unavailable'), 'Failed to create Kubernetes client');
  t.equal(text('connection_refused'), 'TokenReview API call failed: connection refused');
  t.equal(text('invalid_response'), 'TokenReview API call failed: not a TokenReview');
});

t.test('a credential of another scheme gets a challenge without an error code (RFC 6750 §3.1)', async t => {
  const denial = { kind: 'deny', reason: 'credentials_malformed', detail: OTHER_SCHEME } as const;
  t.match(toErrorResponse(denial, DEFAULTS), {
    status: 401,
    text: 'Invalid Authorization header format',
    challenge: BEARER,
  });
});
