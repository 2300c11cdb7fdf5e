import t from 'tap';
import type { Allow, Decision, Deny, Unavailable } from '../../src/decision/decision.ts';
import { type Answer, type AnswererOptions, answerer, headerPairs } from '../../src/gateway/answer.ts';
import { renderHead } from '../../src/gateway/whole-head.ts';
import { identityRenderer } from '../../src/identity/headers.ts';
import type { Identity } from '../../src/identity/identity.ts';
import { MY_APP } from '../fixtures/identities.ts';

const OPTIONS: AnswererOptions = {
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
function whole({ status, headers, body, text }: Answer) {
  return { status, headers, body, text };
}

function headersOf({ headers }: Answer): Record<string, string> {
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
  const { status, headers, body, text } = answerer(OPTIONS)({ kind: 'allow', identity: MY_APP });
  t.strictSame({ status, body, text }, { status: 200, body: '', text: '' });
  t.strictSame(headers, [
    ...['Content-Length', '0', 'Cache-Control', 'no-store'],
    ...identityRenderer('X-Auth-Request-')(MY_APP),
  ]);
});

t.test('a head has the status and the headers, and each form is rendered once', async t => {
  const answer = answerer(OPTIONS);
  const allow = answer({ kind: 'allow', identity: MY_APP });
  t.equal(allow.head, renderHead(200, allow.headers));
  t.equal(allow.headers, answer({ kind: 'allow', identity: MY_APP }).headers);
  for (const decision of [REJECTED, MISSING, OUTAGE, { kind: 'allow', identity: undefined } as const]) {
    const { status, headers, head } = answer(decision);
    t.equal(head, renderHead(status, headers));
  }
});

t.test('an allow by grace is marked with how old the verdict is, and the mark stays with no other', async t => {
  const answer = answerer(OPTIONS);
  t.equal(headersOf(answer({ kind: 'allow', identity: MY_APP, staleSeconds: 7 }))['X-Gatecar-Stale'], '7');
  t.notOk('X-Gatecar-Stale' in headersOf(answer({ kind: 'allow', identity: MY_APP })));
  t.equal(headersOf(answer({ kind: 'allow', identity: MY_APP, staleSeconds: 0 }))['X-Gatecar-Stale'], '0');
});

t.test('an allow of nobody in particular empties every identity header', async t => {
  const { status, headers } = answerer(OPTIONS)({ kind: 'allow', identity: undefined });
  t.equal(status, 200);
  t.strictSame(headers.slice(4), identityRenderer('X-Auth-Request-')(undefined));
});

t.test('the prefix of identity headers is the operator’s', async t => {
  const answer = answerer({ ...OPTIONS, identityHeaderPrefix: 'X-Who-' });
  t.equal(headersOf(answer({ kind: 'allow', identity: MY_APP }))['X-Who-User'], MY_APP.username);
  t.equal(headersOf(answer({ kind: 'allow', identity: undefined }))['X-Who-User'], '');
});

t.test('an identity is rendered once for as long as it is kept, and never for another', async t => {
  const answer = answerer(OPTIONS);
  const first = answer({ kind: 'allow', identity: MY_APP });
  t.equal(answer({ kind: 'allow', identity: MY_APP }), first);
  const other = answer({ kind: 'allow', identity: { ...MY_APP, username: 'alice' } });
  t.equal(headersOf(other)['X-Auth-Request-User'], 'alice');
  t.equal(answer({ kind: 'allow', identity: MY_APP }), first);
});

t.test('what is told twice is rendered once, and nothing else is taken for it', async t => {
  const answer = answerer(OPTIONS);
  const told: Exclude<Decision, Allow>[] = [
    ...[REJECTED, MISSING, FOREIGN, OUTAGE, { ...REJECTED, detail: '' }, { ...REJECTED, retryAfterSeconds: 3 }],
    ...[
      { ...REJECTED, detail: '3 Token not authenticated' },
      { ...OUTAGE, retryAfterSeconds: 1 },
    ],
    ...[{ ...OUTAGE, cause: 'tls' } as const, { ...FOREIGN, reason: 'service_account_denied' } as const],
  ];
  for (const decision of told) {
    t.equal(answer({ ...decision }), answer({ ...decision }), JSON.stringify(decision));
    t.strictSame(whole(answer(decision)), whole(answerer(OPTIONS)(decision)), 'as it is rendered alone');
  }
  t.equal(new Set(told.map(answer)).size, told.length);
});

/** How many answers to so many users of that kind are there when they come again. */
function kept(users: number, options: AnswererOptions, more: Partial<Identity> = {}): number {
  const answer = answerer(options);
  const allows = Array.from({ length: users }, () => ({ kind: 'allow', identity: { ...MY_APP, ...more } }) as const);
  const first = allows.map(answer);
  return allows.filter((allow, at) => answer(allow) === first[at]).length;
}

t.test('answers are kept up to a bound, and no more than there are verdicts', async t => {
  t.equal(kept(1024, OPTIONS), 1024);
  t.equal(kept(100, { ...OPTIONS, cacheMaxEntries: 100 }), 100);
  t.ok(kept(200, { ...OPTIONS, cacheMaxEntries: 100 }) <= 100);
  t.ok(kept(8192, OPTIONS) <= 1024);

  const answer = answerer(OPTIONS);
  const no = answer(REJECTED);
  for (let other = 0; other < 256; other += 1) answer({ ...REJECTED, detail: String(other) });
  t.not(answer(REJECTED), no);
  t.strictSame(whole(answer(REJECTED)), whole(no));
});

t.test('allows of users in many groups are kept in no more room than the others', async t => {
  const groups = Array.from({ length: 300 }, (_, n) => `oidc:a-team-that-has-a-long-name-${n}`);
  const audiences = groups;
  for (const many of [{ groups }, { audiences }, { username: 'u'.repeat(16_000) }, { uid: 'u'.repeat(16_000) }]) {
    t.equal(kept(300, OPTIONS, many), 300);
    t.ok(kept(1000, OPTIONS, many) < 600);
  }
});

t.test('where all are kept that can be, few take the place of another, and whoever asks often is soon in', async t => {
  const answer = answerer({ ...OPTIONS, cacheMaxEntries: 10 });
  const often = { kind: 'allow', identity: MY_APP } as const;
  const users = Array.from({ length: 10 }, () => ({ kind: 'allow', identity: { ...MY_APP } }) as const);
  const first = users.map(answer);
  const once = () => answer({ kind: 'allow', identity: { ...MY_APP } });
  for (let other = 0; other < 5; other += 1) once();
  t.strictSame(
    users.map((user, at) => answer(user) === first[at]),
    users.map(() => true),
  );
  const asked = Array.from({ length: 16 }, () => answer(often));
  t.equal(new Set(asked.slice(asked.findIndex((one, at) => one === asked[at + 1]))).size, 1);
  t.equal(answer(often), asked.at(-1));
  for (const one of asked) t.strictSame(whole(one), whole(asked[0] as Answer));
});

t.test('a denial is JSON with a challenge and a reason, and no identity header', async t => {
  t.strictSame(whole(answerer(OPTIONS)(REJECTED)), {
    status: 401,
    headers: [
      ...['Content-Type', 'application/json', 'Content-Length', '60', 'Cache-Control', 'no-store'],
      ...['WWW-Authenticate', 'Bearer realm="gatecar", error="invalid_token"', 'X-Gatecar-Reason', 'token_rejected'],
    ],
    body: '{"error":"Token validation failed: Token not authenticated"}',
    text: 'Token validation failed: Token not authenticated',
  });
  t.equal(answerer(OPTIONS)(MISSING).body, '{"error":"Missing Authorization header"}');
  t.equal(headersOf(answerer(OPTIONS)(MISSING))['WWW-Authenticate'], 'Bearer realm="gatecar"');
});

t.test('an outage is a 503 that says when to come again, and challenges nobody', async t => {
  t.strictSame(whole(answerer(OPTIONS)(OUTAGE)), {
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
  const answer = answerer({ ...OPTIONS, policyDeniedStatus: 403, unavailableStatus: 401 });
  t.equal(answer(FOREIGN).status, 403);
  t.equal(answer(REJECTED).status, 401);
  t.equal(answer(OUTAGE).status, 401);
  t.equal(headersOf(answer(OUTAGE))['WWW-Authenticate'], 'Bearer realm="gatecar"');
  t.equal(headersOf(answer(OUTAGE))['Retry-After'], '3');
});

t.test('an answer without detail gives no reason', async t => {
  const answer = answerer({ ...OPTIONS, errorDetail: 'generic' });
  for (const decision of [REJECTED, MISSING, FOREIGN, OUTAGE]) {
    t.notOk('X-Gatecar-Reason' in headersOf(answer(decision)), decision.reason);
  }
  t.equal(answer(FOREIGN).body, '{"error":"Unauthorized"}');
});

t.test('the declared length is that of the body in bytes', async t => {
  for (const detail of ['', 'plain', 'Größe 😀', '"quoted"\n']) {
    const answer = answerer(OPTIONS)({ ...REJECTED, detail });
    t.equal(headersOf(answer)['Content-Length'], String(Buffer.byteLength(answer.body)), detail);
    t.strictSame(JSON.parse(answer.body), { error: `Token validation failed: ${detail}` });
  }
});
