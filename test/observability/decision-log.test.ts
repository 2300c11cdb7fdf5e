import { Writable } from 'node:stream';
import t, { type Test } from 'tap';
import { parseAuthorization } from '../../src/credential/authorization-header.ts';
import { Token } from '../../src/credential/token.ts';
import type { Decision } from '../../src/decision/decision.ts';
import type { DecisionEvent } from '../../src/gateway/decision-event.ts';
import { decisionLog } from '../../src/observability/decision-log.ts';
import { logger } from '../../src/observability/logging/logger.ts';
import { fingerprint } from '../../src/observability/logging/token-fingerprint.ts';
import { authenticatedAs } from '../fixtures/authenticated-result.ts';
import { until } from '../fixtures/until.ts';

function open(t: Test, level = 'debug', windowMs?: number) {
  let text = '';
  const destination = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const decisions = decisionLog(logger(level, destination), windowMs);
  t.teardown(() => decisions.close());
  const lines = () =>
    text
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line));
  return { decisions, lines };
}

function decided(decision: Decision, authorization: string | undefined = 'Bearer abc'): DecisionEvent {
  return {
    protocol: 'http',
    decision,
    answer: { status: decision.kind === 'allow' ? 200 : 401, headers: [], body: '', text: '' },
    credential: parseAuthorization(authorization),
    durationMs: 1.23456,
    forwarded: () => ({ clientAddress: '192.0.2.1', requestId: 'r', method: 'GET', uri: '/x', trace: undefined }),
    trace: undefined,
  };
}

const denial: Decision = { kind: 'deny', reason: 'namespace_denied', detail: 'ns', username: 'me' };

t.test('a denial is one line at info with every field and the token’s fingerprint', async t => {
  const { decisions, lines } = open(t, 'info');
  decisions.record(decided(denial));
  // biome-ignore format: a list of names
  t.strictSame(Object.keys(lines()[0]).sort(), [
    'clientAddress', 'detail', 'durationMs', 'level', 'method', 'msg', 'name', 'protocol', 'reason', 'requestId',
    'status', 'time', 'token', 'uri', 'username',
  ]);
  t.match(lines(), [
    {
      level: 'info',
      msg: 'denied',
      reason: 'namespace_denied',
      detail: 'ns',
      username: 'me',
      status: 401,
      token: fingerprint(new Token('abc')),
      durationMs: 1.235,
      requestId: 'r',
      uri: '/x',
    },
  ]);
});

t.test('the line of a denial without a token has no fingerprint', async t => {
  const { decisions, lines } = open(t);
  decisions.record(decided({ kind: 'deny', reason: 'credentials_missing', detail: '' }, ''));
  t.notOk('token' in lines()[0]);
  t.notOk('detail' in lines()[0]);
});

t.test('an unavailable decision is logged as a warning', async t => {
  const { decisions, lines } = open(t);
  decisions.record(
    decided({ kind: 'unavailable', reason: 'authority_unavailable', cause: 'timeout', retryAfterSeconds: 1 }),
  );
  t.match(lines(), [{ level: 'warn', msg: 'unavailable', reason: 'authority_unavailable', cause: 'timeout' }]);
});

t.test('every allow is logged, only at debug', async t => {
  const allow: Decision = { kind: 'allow', identity: authenticatedAs('my-app').identity };
  const quiet = open(t, 'info');
  quiet.decisions.record(decided(allow));
  t.strictSame(quiet.lines(), []);
  const loud = open(t, 'debug');
  for (let line = 0; line < 20; line += 1) loud.decisions.record(decided(allow));
  loud.decisions.record(decided({ kind: 'allow', identity: undefined }));
  t.equal(loud.lines().length, 21);
  t.match(loud.lines()[0], { level: 'debug', msg: 'allowed', username: 'system:serviceaccount:default:my-app' });
});

t.test('the user name of an allow is logged as printable ASCII', async t => {
  const { decisions, lines } = open(t);
  const { identity } = authenticatedAs();
  decisions.record(decided({ kind: 'allow', identity: { ...identity, username: 'jané\n' } }));
  t.equal(lines()[0].username, 'jan%C3%A9%0A');
});

t.test('a JWT that a webhook returned as user name is redacted from the log', async t => {
  const { decisions, lines } = open(t);
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhYmNkZWZnIn0.c2lnbmF0dXJl';
  const { identity } = authenticatedAs();
  decisions.record(decided({ kind: 'allow', identity: { ...identity, username: `user:${jwt}` } }));
  decisions.record(decided({ ...denial, username: btoa(jwt) }));
  t.match(lines(), [{ username: 'user:[token]' }, { username: '[token]' }]);
});

t.test('a disabled log level writes no line, counts nothing and reads no headers', async t => {
  const { decisions, lines } = open(t, 'error');
  const unread = { forwarded: () => t.fail('forwarded() must not be called') as never };
  for (let line = 0; line < 20; line += 1) decisions.record({ ...decided(denial), ...unread });
  decisions.record({ ...decided({ kind: 'allow', identity: undefined }), ...unread });
  decisions.close();
  t.strictSame(lines(), []);
});

t.test('repeated lines are suppressed per user and reason, and their number is logged at close', async t => {
  const { decisions, lines } = open(t);
  for (let line = 0; line < 100; line += 1) decisions.record(decided(denial));
  for (let line = 0; line < 12; line += 1) decisions.record(decided({ ...denial, username: 'another user' }));
  for (let line = 0; line < 11; line += 1) {
    decisions.record(decided({ kind: 'deny', reason: 'token_rejected', detail: '' }));
  }
  t.equal(lines().length, 10 + 10 + 10);
  decisions.close();
  const summaries = lines()
    .slice(-3)
    .sort((left, right) => right.suppressed - left.suppressed);
  t.match(summaries, [
    { msg: 'repeated log lines suppressed', reason: 'namespace_denied', username: 'me', suppressed: 90 },
    { msg: 'repeated log lines suppressed', reason: 'namespace_denied', username: 'another user', suppressed: 2 },
    { msg: 'repeated log lines suppressed', reason: 'token_rejected', suppressed: 1 },
  ]);
});

t.test('the number of suppressed lines is logged at the end of the window', async t => {
  const { decisions, lines } = open(t, 'info', 20);
  for (let line = 0; line < 12; line += 1) decisions.record(decided(denial));
  await until(() => lines().length > 10);
  t.match(lines().at(-1), {
    msg: 'repeated log lines suppressed',
    reason: 'namespace_denied',
    username: 'me',
    suppressed: 2,
  });
});
