import t from 'tap';
import type { Deny, Unavailable } from '../../src/decision/decision.ts';
import { type AuthResponse, createResponseRenderer, headerPairs } from '../../src/gateway/auth-response.ts';
import { createIdentityHeaders } from '../../src/identity/identity-headers.ts';
import { EMPTY_IDENTITY, MY_APP } from '../fixtures/identities.ts';
import { RENDERER_OPTIONS } from '../fixtures/renderer-options.ts';

const REJECTED: Deny = { kind: 'deny', reason: 'token_rejected', detail: 'Token not authenticated' };
const MISSING: Deny = { kind: 'deny', reason: 'credentials_missing', detail: '' };
const POLICY_DENIED: Deny = { kind: 'deny', reason: 'namespace_denied', detail: 'ci', username: MY_APP.username };
const OUTAGE: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 3,
};

/** The fields of a response, rendered. */
function fieldsOf({ status, headers, body, text }: AuthResponse) {
  return { status, headers, body, text };
}

function headersOf({ headers }: AuthResponse): Record<string, string> {
  return Object.fromEntries(headerPairs(headers));
}

t.test('a flat header list is returned as name-value pairs, in order', async t => {
  t.strictSame(
    [...headerPairs(['A', '1', 'B', '', 'A', '2'])],
    [
      ['A', '1'],
      ['B', ''],
      ['A', '2'],
    ],
  );
  t.strictSame([...headerPairs([])], []);
});

t.test('an allow is a 200 with no-store and every identity header, without a body or a content type', async t => {
  const { status, headers, body, text } = createResponseRenderer(RENDERER_OPTIONS)({ kind: 'allow', identity: MY_APP });
  t.strictSame({ status, body, text }, { status: 200, body: '', text: '' });
  // biome-ignore format: pairs of name and value
  t.strictSame(headers, [
    'Content-Length', '0', 'Cache-Control', 'no-store',
    ...createIdentityHeaders('X-Auth-Request-')(MY_APP),
  ]);
});

t.test('a stale allow carries the age of its result, and the next allow does not', async t => {
  const render = createResponseRenderer(RENDERER_OPTIONS);
  t.equal(headersOf(render({ kind: 'allow', identity: MY_APP, staleSeconds: 7 }))['X-Gatecar-Stale'], '7');
  t.notOk('X-Gatecar-Stale' in headersOf(render({ kind: 'allow', identity: MY_APP })));
  t.equal(headersOf(render({ kind: 'allow', identity: MY_APP, staleSeconds: 0 }))['X-Gatecar-Stale'], '0');
});

t.test('an allow without an identity empties every identity header', async t => {
  const { status, headers } = createResponseRenderer(RENDERER_OPTIONS)({ kind: 'allow', identity: undefined });
  t.equal(status, 200);
  t.strictSame(headers.slice(4), createIdentityHeaders('X-Auth-Request-')(undefined));
});

t.test('identity headers have the configured prefix', async t => {
  const render = createResponseRenderer({ ...RENDERER_OPTIONS, identityHeaderPrefix: 'X-Id-' });
  t.equal(headersOf(render({ kind: 'allow', identity: MY_APP }))['X-Id-User'], MY_APP.username);
  t.equal(headersOf(render({ kind: 'allow', identity: undefined }))['X-Id-User'], '');
});

t.test('each allow carries the headers of its identity', async t => {
  const render = createResponseRenderer(RENDERER_OPTIONS);
  for (const username of ['alice', 'bob', 'alice']) {
    const allow = render({ kind: 'allow', identity: { ...MY_APP, username } });
    t.equal(headersOf(allow)['X-Auth-Request-User'], username);
  }
});

t.test('allows of one identity share a frozen response', async t => {
  const render = createResponseRenderer(RENDERER_OPTIONS);
  const response = render({ kind: 'allow', identity: MY_APP });
  t.equal(render({ kind: 'allow', identity: MY_APP }), response);
  t.ok(Object.isFrozen(response) && Object.isFrozen(response.headers));
});

t.test('an identity with the same credential ID as another gets its own response', async t => {
  const render = createResponseRenderer(RENDERER_OPTIONS);
  const other = { ...MY_APP, username: 'other' };
  for (const identity of [MY_APP, other, MY_APP, { ...other, credentialId: '' }, EMPTY_IDENTITY]) {
    t.equal(headersOf(render({ kind: 'allow', identity }))['X-Auth-Request-User'], identity.username);
  }
});

t.test('a denial is JSON with a challenge and a reason, without identity headers', async t => {
  t.strictSame(fieldsOf(createResponseRenderer(RENDERER_OPTIONS)(REJECTED)), {
    status: 401,
    // biome-ignore format: pairs of name and value
    headers: [
      'Content-Type', 'application/json', 'Content-Length', '60', 'Cache-Control', 'no-store',
      'WWW-Authenticate', 'Bearer realm="gatecar", error="invalid_token"', 'X-Gatecar-Reason', 'token_rejected',
    ],
    body: '{"error":"Token validation failed: Token not authenticated"}',
    text: 'Token validation failed: Token not authenticated',
  });
  t.equal(createResponseRenderer(RENDERER_OPTIONS)(MISSING).body, '{"error":"Missing Authorization header"}');
  t.equal(headersOf(createResponseRenderer(RENDERER_OPTIONS)(MISSING))['WWW-Authenticate'], 'Bearer realm="gatecar"');
});

t.test('an unavailable result is a 503 with Retry-After and without a challenge', async t => {
  t.strictSame(fieldsOf(createResponseRenderer(RENDERER_OPTIONS)(OUTAGE)), {
    status: 503,
    // biome-ignore format: pairs of name and value
    headers: [
      'Content-Type', 'application/json', 'Content-Length', '48', 'Cache-Control', 'no-store',
      'X-Gatecar-Reason', 'authority_unavailable', 'Retry-After', '3',
    ],
    body: '{"error":"TokenReview API call failed: timeout"}',
    text: 'TokenReview API call failed: timeout',
  });
});

t.test('denials by policy and unavailable results have the configured statuses', async t => {
  const render = createResponseRenderer({ ...RENDERER_OPTIONS, policyDeniedStatus: 403, unavailableStatus: 401 });
  t.equal(render(POLICY_DENIED).status, 403);
  t.equal(render(REJECTED).status, 401);
  t.equal(render(OUTAGE).status, 401);
  t.equal(headersOf(render(OUTAGE))['WWW-Authenticate'], 'Bearer realm="gatecar"');
  t.equal(headersOf(render(OUTAGE))['Retry-After'], '3');
});

t.test('with errorDetail=generic no response names its reason', async t => {
  const render = createResponseRenderer({ ...RENDERER_OPTIONS, errorDetail: 'generic' });
  for (const decision of [REJECTED, MISSING, POLICY_DENIED, OUTAGE]) {
    t.notOk('X-Gatecar-Reason' in headersOf(render(decision)), decision.reason);
  }
  t.equal(render(POLICY_DENIED).body, '{"error":"Unauthorized"}');
});

t.test('Content-Length is the length of the body in bytes', async t => {
  for (const detail of ['', 'plain', 'Größe 😀', '"quoted"\n']) {
    const response = createResponseRenderer(RENDERER_OPTIONS)({ ...REJECTED, detail });
    t.equal(headersOf(response)['Content-Length'], String(Buffer.byteLength(response.body)), detail);
    t.strictSame(JSON.parse(response.body), { error: `Token validation failed: ${detail}` });
  }
});
