import t from 'tap';
import type { Deny, Unavailable } from '../../src/decision/decision.ts';
import {
  type AuthResponse,
  createResponseRenderer,
  headerPairs,
  type ResponseRendererOptions,
} from '../../src/gateway/auth-response.ts';
import { createIdentityHeaders } from '../../src/identity/identity-headers.ts';
import { MY_APP } from '../fixtures/identities.ts';

const OPTIONS: ResponseRendererOptions = {
  policyDeniedStatus: 401,
  unavailableStatus: 503,
  errorDetail: 'full',
  identityHeaderPrefix: 'X-Auth-Request-',
};

const REJECTED: Deny = { kind: 'deny', reason: 'token_rejected', detail: 'Token not authenticated' };
const MISSING: Deny = { kind: 'deny', reason: 'credentials_missing', detail: '' };
const FOREIGN: Deny = { kind: 'deny', reason: 'namespace_denied', detail: 'ci', username: MY_APP.username };
const OUTAGE: Unavailable = {
  ...{ kind: 'unavailable', reason: 'authority_unavailable', cause: 'timeout', retryAfterSeconds: 3 },
};

/** All of an answer, rendered. */
function whole({ status, headers, body, text }: AuthResponse) {
  return { status, headers, body, text };
}

function headersOf({ headers }: AuthResponse): Record<string, string> {
  return Object.fromEntries(headerPairs(headers));
}

t.test('a flat list is told in pairs, in its order', async t => {
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

t.test('an allow is a 200 without a body or a type, not to be stored, with every identity header', async t => {
  const { status, headers, body, text } = createResponseRenderer(OPTIONS)({ kind: 'allow', identity: MY_APP });
  t.strictSame({ status, body, text }, { status: 200, body: '', text: '' });
  t.strictSame(headers, [
    ...['Content-Length', '0', 'Cache-Control', 'no-store'],
    ...createIdentityHeaders('X-Auth-Request-')(MY_APP),
  ]);
});

t.test('an allow by grace is marked with how old the result is, and the mark stays with no other', async t => {
  const answer = createResponseRenderer(OPTIONS);
  t.equal(headersOf(answer({ kind: 'allow', identity: MY_APP, staleSeconds: 7 }))['X-Gatecar-Stale'], '7');
  t.notOk('X-Gatecar-Stale' in headersOf(answer({ kind: 'allow', identity: MY_APP })));
  t.equal(headersOf(answer({ kind: 'allow', identity: MY_APP, staleSeconds: 0 }))['X-Gatecar-Stale'], '0');
});

t.test('an allow of nobody in particular empties every identity header', async t => {
  const { status, headers } = createResponseRenderer(OPTIONS)({ kind: 'allow', identity: undefined });
  t.equal(status, 200);
  t.strictSame(headers.slice(4), createIdentityHeaders('X-Auth-Request-')(undefined));
});

t.test('the prefix of identity headers is the operator’s', async t => {
  const answer = createResponseRenderer({ ...OPTIONS, identityHeaderPrefix: 'X-Who-' });
  t.equal(headersOf(answer({ kind: 'allow', identity: MY_APP }))['X-Who-User'], MY_APP.username);
  t.equal(headersOf(answer({ kind: 'allow', identity: undefined }))['X-Who-User'], '');
});

t.test('each allow has the headers of its own identity', async t => {
  const answer = createResponseRenderer(OPTIONS);
  for (const username of ['alice', 'bob', 'alice']) {
    const allow = answer({ kind: 'allow', identity: { ...MY_APP, username } });
    t.equal(headersOf(allow)['X-Auth-Request-User'], username);
  }
});

t.test('a denial is JSON with a challenge and a reason, and no identity header', async t => {
  t.strictSame(whole(createResponseRenderer(OPTIONS)(REJECTED)), {
    status: 401,
    headers: [
      ...['Content-Type', 'application/json', 'Content-Length', '60', 'Cache-Control', 'no-store'],
      ...['WWW-Authenticate', 'Bearer realm="gatecar", error="invalid_token"', 'X-Gatecar-Reason', 'token_rejected'],
    ],
    body: '{"error":"Token validation failed: Token not authenticated"}',
    text: 'Token validation failed: Token not authenticated',
  });
  t.equal(createResponseRenderer(OPTIONS)(MISSING).body, '{"error":"Missing Authorization header"}');
  t.equal(headersOf(createResponseRenderer(OPTIONS)(MISSING))['WWW-Authenticate'], 'Bearer realm="gatecar"');
});

t.test('an outage is a 503 that says when to come again, and challenges nobody', async t => {
  t.strictSame(whole(createResponseRenderer(OPTIONS)(OUTAGE)), {
    status: 503,
    headers: [
      ...['Content-Type', 'application/json', 'Content-Length', '48', 'Cache-Control', 'no-store'],
      ...['X-Gatecar-Reason', 'authority_unavailable', 'Retry-After', '3'],
    ],
    body: '{"error":"TokenReview API call failed: timeout"}',
    text: 'TokenReview API call failed: timeout',
  });
});

t.test('the settings for statuses count', async t => {
  const answer = createResponseRenderer({ ...OPTIONS, policyDeniedStatus: 403, unavailableStatus: 401 });
  t.equal(answer(FOREIGN).status, 403);
  t.equal(answer(REJECTED).status, 401);
  t.equal(answer(OUTAGE).status, 401);
  t.equal(headersOf(answer(OUTAGE))['WWW-Authenticate'], 'Bearer realm="gatecar"');
  t.equal(headersOf(answer(OUTAGE))['Retry-After'], '3');
});

t.test('an answer without detail gives no reason', async t => {
  const answer = createResponseRenderer({ ...OPTIONS, errorDetail: 'generic' });
  for (const decision of [REJECTED, MISSING, FOREIGN, OUTAGE]) {
    t.notOk('X-Gatecar-Reason' in headersOf(answer(decision)), decision.reason);
  }
  t.equal(answer(FOREIGN).body, '{"error":"Unauthorized"}');
});

t.test('the declared length is that of the body in bytes', async t => {
  for (const detail of ['', 'plain', 'Größe 😀', '"quoted"\n']) {
    const answer = createResponseRenderer(OPTIONS)({ ...REJECTED, detail });
    t.equal(headersOf(answer)['Content-Length'], String(Buffer.byteLength(answer.body)), detail);
    t.strictSame(JSON.parse(answer.body), { error: `Token validation failed: ${detail}` });
  }
});
