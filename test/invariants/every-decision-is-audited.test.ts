import t, { type Test } from 'tap';
import type { AuditLine } from '../../src/observability/audit-log.ts';
import { auditLines, decisions, faultsOf } from '../fixtures/audit-lines.ts';
import { converse, head } from '../fixtures/conversation.ts';
import { envoyClient } from '../fixtures/envoy-client.ts';
import { everywhere, leaked, newJwt } from '../fixtures/find-token.ts';
import { startGatecar, type TestGatecar } from '../fixtures/gatecar.ts';
import { reaches } from '../fixtures/metrics.ts';
import { mutate, TOKEN } from '../fixtures/mutate-request.ts';
import { seeded } from '../fixtures/seeded-random.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import {
  accepts,
  answers,
  type Behaviour,
  heldBack,
  resets,
  reviews,
  type StandIn,
  startStandIn,
} from '../fixtures/stand-in-api-server.ts';
import { until } from '../fixtures/until.ts';

const SEED = 20_240_601;
const MUTATED_REQUESTS = 300;

/**
 * Line ends of every kind, terminal control sequences, characters that JSON allows, quotes and a
 * forged audit line.
 */
const HOSTILE_TEXT = `a\r\n{"audit":true,"decision":"allow"}\u2028\u2029\u0085\x1b[2J\x9b2J\x00\\"\ud800\u202eü`;
const LATIN1 = HOSTILE_TEXT.replace(/[^\t\x20-\x7e\x80-\xff]/g, '');

async function start(t: Test, settings: Record<string, string> = {}) {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
    GATECAR_CLIENT_IP_HEADER: 'X-Forwarded-For',
    GATECAR_ALLOWED_NAMESPACES: 'default',
    GATECAR_AUDIT_LOG: 'all',
    GATECAR_LOG_LEVEL: 'silent',
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  return { standIn, gatecar, lines: () => auditLines(gatecar.logText()) };
}

/** Responses of an API server or of a webhook behind it. */
const RESPONSES: readonly Behaviour[] = [
  accepts(),
  accepts({ user: { username: HOSTILE_TEXT, uid: HOSTILE_TEXT }, audiences: ['bindcar', HOSTILE_TEXT] }),
  accepts({ user: { username: 'ü'.repeat(100_000), uid: 'x'.repeat(100_000) } }),
  accepts({ user: { username: `system:serviceaccount:ci:${HOSTILE_TEXT}` } }),
  accepts({ user: {} }),
  accepts({ audiences: [] }),
  reviews({ error: HOSTILE_TEXT }),
  reviews({ error: 'x'.repeat(100_000) }),
  answers(500, HOSTILE_TEXT),
  answers(201, '{'),
  answers(429, '', { 'retry-after': '1' }),
  resets,
];

/** Headers that a client or a gateway may send in addition to its credential. */
function* requestHeaders(jwt: string): Generator<Record<string, string>> {
  yield everywhere(jwt);
  yield everywhere(LATIN1);
  yield everywhere('x'.repeat(3000));
  yield everywhere('/%0d%0a%e2%80%a8?\\"');
  yield { Authorization: `Bearer ${LATIN1}` };
  yield { Authorization: 'Bearer ' };
  yield { Authorization: 'Basic x' };
  yield {};
}

async function sendAllHeaders(standIn: StandIn, gatecar: TestGatecar, jwt: string): Promise<void> {
  for (const [index, behaviour] of RESPONSES.entries()) {
    standIn.behaviour = behaviour;
    for (const headers of requestHeaders(jwt)) {
      await sendRequest(gatecar.auth, { headers });
      if (headers['Authorization'] === undefined) await sendRequest(gatecar.auth, { headers, token: `${jwt}${index}` });
    }
  }
  standIn.behaviour = accepts();
}

async function sendMutated(gatecar: TestGatecar, token: string): Promise<void> {
  const random = seeded(SEED);
  const valid = head(
    'GET /auth HTTP/1.1',
    `Authorization: Bearer ${TOKEN}`,
    `X-Original-URI: /a/${TOKEN}`,
    'X-Request-ID: a',
  );
  for (let i = 0; i < MUTATED_REQUESTS; i += 1) {
    const conversation = await converse(gatecar.auth);
    conversation.send(mutate(valid, random, valid).replaceAll(TOKEN, token));
    conversation.end();
    await conversation.closed;
  }
}

async function sendAllChecks(gatecar: TestGatecar, jwt: string): Promise<void> {
  const envoy = envoyClient(gatecar.grpc);
  for (const text of [HOSTILE_TEXT.replace('\ud800', ''), jwt, 'x'.repeat(100_000), '']) {
    const http = { id: text, method: text, path: `/${text}?${text}`, headers: { 'x-request-id': text } };
    for (const authorization of [`Bearer ${jwt}`, 'Bearer', text]) {
      await envoy.check({
        attributes: {
          source: { address: { socket_address: { address: text } } },
          request: { http: { ...http, headers: { ...http.headers, authorization } } },
        },
      });
    }
  }
  await envoy.check({});
  envoy.close();
}

t.test(
  'each decision has one audit line that matches the schema and contains no token, whatever the input',
  async t => {
    const { standIn, gatecar, lines } = await start(t, { GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
    const jwt = newJwt();
    await sendAllHeaders(standIn, gatecar, jwt);
    await sendMutated(gatecar, jwt);
    await sendAllChecks(gatecar, jwt);

    const all = lines();
    t.equal(all.length, await decisions(gatecar.ops));
    // Most of the other mutated requests are not valid HTTP, or repeat `Host`.
    t.ok(all.length > RESPONSES.length * 12 + MUTATED_REQUESTS / 3, `${all.length} decisions`);
    t.strictSame(faultsOf(all), []);
    t.same(
      all.map(({ sequence }) => sequence),
      all.map((_, index) => index + 1),
    );
    t.match(gatecar.logText(), /^[\n\x20-\x7e]*$/, 'every line is printable ASCII');
    t.equal(gatecar.logText().split('\n').length, all.length + 1, 'the log has no other line');
    for (const line of gatecar.logText().split('\n')) t.ok(line.length < 8192);
    t.equal(leaked(gatecar.logText(), [jwt]), undefined);
    for (const kind of ['allow', 'deny', 'unavailable'] as const) {
      t.equal(all.filter(({ decision }) => decision === kind).length, await decisions(gatecar.ops, kind), kind);
      t.ok(all.some(({ decision }) => decision === kind));
    }
    for (const protocol of ['http', 'grpc'] as const) t.ok(all.some(line => line.protocol === protocol));
  },
);

t.test(
  '`denied` audits every decision other than allow, `off` audits none, and neither changes a response',
  async t => {
    const statuses: number[][] = [];
    for (const auditLog of ['all', 'denied', 'off']) {
      const { standIn, gatecar, lines } = await start(t, { GATECAR_AUDIT_LOG: auditLog });
      const received: number[] = [];
      for (const behaviour of [accepts(), reviews({ error: 'no' }), answers(500, '')]) {
        standIn.behaviour = behaviour;
        for (let i = 0; i < 20; i += 1)
          received.push((await sendRequest(gatecar.auth, { token: `${received.length}` })).status);
      }
      statuses.push(received);
      const kinds = { all: 'allow|deny|unavailable', denied: 'deny|unavailable', off: 'none' }[auditLog] ?? '';
      t.equal(lines().length, await decisions(gatecar.ops, kinds), auditLog);
      t.strictSame(faultsOf(lines()), []);
    }
    t.strictSame(statuses[1], statuses[0]);
    t.strictSame(statuses[2], statuses[0]);
  },
);

t.test('an audit line names the source of its result', async t => {
  const { standIn, gatecar, lines } = await start(t, {
    GATECAR_OPAQUE_TOKENS: 'reject',
    GATECAR_CACHE_STALE_IF_ERROR: '1m',
    GATECAR_CACHE_TTL: '20ms',
  });
  const last = (): AuditLine | undefined => lines().at(-1);
  const jwt = newJwt();
  await sendRequest(gatecar.auth);
  t.match(last(), { reason: 'credentials_missing', source: 'local' });
  await sendRequest(gatecar.auth, { token: 'opaque' });
  t.match(last(), { reason: 'token_rejected', source: 'local' });
  standIn.behaviour = reviews({ error: 'no' });
  await sendRequest(gatecar.auth, { token: newJwt() });
  t.match(last(), { reason: 'token_rejected', source: 'review' });

  const delayed = heldBack(accepts());
  standIn.behaviour = delayed.behaviour;
  const both = [sendRequest(gatecar.auth, { token: jwt }), sendRequest(gatecar.auth, { token: jwt })];
  await until(() => delayed.mostAtOnce === 1);
  await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 1);
  delayed.letGo();
  await Promise.all(both);
  t.strictSame(
    lines()
      .slice(-2)
      .map(({ source }) => source)
      .sort(),
    ['review', 'shared'],
  );
  standIn.behaviour = answers(500, '');
  await until(() => sendRequest(gatecar.auth, { token: jwt }).then(() => last()?.source === 'stale'));
  t.match(last(), { decision: 'allow', user: 'system:serviceaccount:default:my-app', staleSeconds: 0 });
});

t.test('an audit line of a cached result has source `cache`', async t => {
  const { gatecar, lines } = await start(t);
  await sendRequest(gatecar.auth, { token: 'good' });
  await sendRequest(gatecar.auth, { token: 'good' });
  t.match(lines(), [{ source: 'review' }, { source: 'cache' }]);
});

t.test('the trace context of a trusted proxy is in the log and audit lines, over HTTP and gRPC', async t => {
  const { gatecar, lines } = await start(t, { GATECAR_GRPC_LISTEN: '127.0.0.1:0', GATECAR_LOG_LEVEL: 'debug' });
  const [trace_id, span_id] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
  const traceparent = `00-${trace_id}-${span_id}-01`;
  for (const token of ['good', '']) await sendRequest(gatecar.auth, { token, headers: { traceparent } });
  const envoy = envoyClient(gatecar.grpc);
  await envoy.check({}, undefined, { traceparent });
  envoy.close();
  for (const invalid of ['x', `${traceparent}-`, ''])
    await sendRequest(gatecar.auth, { headers: { traceparent: invalid } });
  t.match(lines().slice(0, 3), Array(3).fill({ trace_id, span_id }));
  t.strictSame(lines().filter(line => 'trace_id' in line || 'span_id' in line).length, 3);
  t.strictSame(faultsOf(lines()), []);
  const logged = gatecar.logs().filter(line => line['audit'] === undefined && line['trace_id'] === trace_id);
  t.match(logged, [
    { msg: 'allowed', span_id },
    { msg: 'denied', span_id },
    { msg: 'denied', span_id },
  ]);
});
