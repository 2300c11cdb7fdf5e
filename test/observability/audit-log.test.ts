import { Writable } from 'node:stream';
import t from 'tap';
import { parseAuthorization } from '../../src/credential/authorization-header.ts';
import { Token } from '../../src/credential/token.ts';
import type { Decision } from '../../src/decision/decision.ts';
import type { DecisionEvent } from '../../src/gateway/decision-event.ts';
import { auditLog } from '../../src/observability/audit-log.ts';
import { logger } from '../../src/observability/logging/logger.ts';
import { fingerprint } from '../../src/observability/logging/token-fingerprint.ts';
import { faultsOf } from '../fixtures/audit-lines.ts';
import { EMPTY_IDENTITY, MY_APP } from '../fixtures/identities.ts';

const ALLOW: Decision = { kind: 'allow', identity: MY_APP };
const DENIAL: Decision = {
  kind: 'deny',
  reason: 'namespace_denied',
  detail: 'default',
  username: MY_APP.username,
  identity: MY_APP,
};
const OUTAGE: Decision = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 1,
};
const STATUS = { allow: 200, deny: 401, unavailable: 503 } as const;

function decided(decision: Decision, more: Partial<DecisionEvent> = {}): DecisionEvent {
  return {
    protocol: 'http',
    decision,
    answer: { status: STATUS[decision.kind], headers: [], body: '', text: '' },
    credential: parseAuthorization('Bearer abc'),
    durationMs: 1.23456,
    forwarded: () => ({ clientAddress: '192.0.2.1', requestId: 'r', method: 'GET', uri: '/x', trace: undefined }),
    trace: { source: 'cache' },
    ...more,
  };
}

function open(setting: 'off' | 'denied' | 'all', level = 'info') {
  let text = '';
  const destination = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const audit = auditLog(logger(level, destination), setting);
  const lines = () =>
    text
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line));
  return { audit, lines };
}

t.test('an audit line has every field of a decision, and is valid by the published schema', async t => {
  const { audit, lines } = open('all');
  audit?.record(decided(ALLOW));
  const [{ time, ...line }] = lines();
  t.match(time, /^20\d\d-/);
  t.strictSame(line, {
    level: 'info',
    name: 'gatecar',
    audit: true,
    sequence: 1,
    decision: 'allow',
    status: 200,
    source: 'cache',
    user: MY_APP.username,
    uid: MY_APP.uid,
    audiences: ['bindcar', 'other'],
    protocol: 'http',
    token: fingerprint(new Token('abc')),
    requestId: 'r',
    method: 'GET',
    uri: '/x',
    clientAddress: '192.0.2.1',
    durationMs: 1.235,
  });
  t.strictSame(faultsOf(lines()), []);
});

t.test('the audit line of a denial has its reason, and the user if the API server authenticated one', async t => {
  const { audit, lines } = open('denied');
  audit?.record(decided(DENIAL));
  audit?.record(
    decided(
      { kind: 'deny', reason: 'credentials_missing', detail: '' },
      { credential: { kind: 'absent' }, trace: undefined },
    ),
  );
  audit?.record(decided(OUTAGE, { trace: { source: 'review' } }));
  const [byPolicy, missing, outage] = lines();
  t.match(byPolicy, { reason: 'namespace_denied', detail: 'default', user: MY_APP.username, uid: MY_APP.uid });
  t.match(missing, { sequence: 2, reason: 'credentials_missing', source: 'local' });
  for (const name of ['token', 'user', 'detail']) t.notOk(name in missing, name);
  t.match(outage, { sequence: 3, decision: 'unavailable', cause: 'timeout', status: 503, source: 'review' });
  t.strictSame(faultsOf(lines()), []);
});

t.test('GATECAR_AUDIT_LOG=denied omits allows, and they use no sequence number', async t => {
  const { audit, lines } = open('denied');
  for (const decision of [ALLOW, DENIAL, ALLOW, OUTAGE]) audit?.record(decided(decision));
  t.match(lines(), [
    { decision: 'deny', sequence: 1 },
    { decision: 'unavailable', sequence: 2 },
  ]);
});

t.test('neither the log level nor a flood suppresses an audit line', async t => {
  for (const level of ['silent', 'error', 'trace']) {
    const { audit, lines } = open('all', level);
    for (let line = 0; line < 1000; line += 1) audit?.record(decided(DENIAL));
    t.equal(lines().length, 1000, level);
    t.equal(lines().at(-1).sequence, 1000);
  }
});

t.test('user, UID and audiences are bounded printable ASCII in audit lines, and absent without identity', async t => {
  const { audit, lines } = open('all');
  const unprintable = `ünï\r\n\u2028\x9b2J${'x'.repeat(5000)}`;
  const audiences = Array.from({ length: 100 }, () => unprintable);
  const identity = { ...MY_APP, username: unprintable, uid: unprintable, audiences };
  audit?.record(decided({ kind: 'allow', identity }));
  audit?.record(decided({ kind: 'allow', identity: undefined }));
  audit?.record(
    decided({ kind: 'allow', identity: { ...EMPTY_IDENTITY, username: 'a', audiences: [''] }, staleSeconds: 7 }),
  );
  const [first, basic, bare] = lines();
  for (const text of [first.user, first.uid, ...first.audiences]) t.match(text, /^%C3%BCn%C3%AF%0D%0A[!-~]{493}$/);
  t.equal(first.audiences.length, 16);
  t.notOk('user' in basic);
  t.match(bare, { user: 'a', audiences: [''], staleSeconds: 7 });
  t.notOk('uid' in bare);
  t.strictSame(faultsOf(lines()), []);
});

t.test('the audit trace of a request starts with the source "local"', async t => {
  const { audit } = open('all');
  t.strictSame(audit?.startTrace(), { source: 'local' });
  t.not(audit?.startTrace(), audit?.startTrace(), 'each request has its own trace');
});

t.test('GATECAR_AUDIT_LOG=off creates no audit log', async t => {
  t.equal(open('off').audit, undefined);
});

t.test('the published schema rejects invalid audit lines', async t => {
  const { audit, lines } = open('all');
  audit?.record(decided(DENIAL));
  const [line] = lines();
  // biome-ignore format: a table
  for (const wrong of [
    { audit: false }, { sequence: 0 }, { decision: 'allow' }, { reason: 'other' }, { user: 'a\n' }, { uri: 'ü' },
    { token: 'abc' }, { extra: 1 }, { status: 200 }, { source: undefined }, { requestId: 'x'.repeat(257) },
  ]) {
    t.not(faultsOf([JSON.parse(JSON.stringify({ ...line, ...wrong }))]).length, 0, JSON.stringify(wrong));
  }
});

t.test('a JWT that a webhook returned as user, UID or audience is redacted from the audit line', async t => {
  const { audit, lines } = open('all');
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhYmNkZWZnIn0.c2lnbmF0dXJl';
  const identity = { ...MY_APP, username: `user:${jwt}`, uid: btoa(jwt), audiences: [jwt, 'bindcar'] };
  audit?.record(decided({ kind: 'allow', identity }));
  t.match(lines(), [{ user: 'user:[token]', uid: '[token]', audiences: ['[token]', 'bindcar'] }]);
});
