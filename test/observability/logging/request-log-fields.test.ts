import t from 'tap';
import type { DecisionEvent } from '../../../src/gateway/decision-event.ts';
import { requestLogFields } from '../../../src/observability/logging/request-log-fields.ts';

const FORWARDED = { clientAddress: '192.0.2.1', requestId: 'r', method: 'GET', uri: '/x' };
const TRACE = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7', flags: 1, state: 'a=b' };

const decided = (more: Partial<DecisionEvent>): DecisionEvent => ({
  protocol: 'http',
  decision: { kind: 'allow', identity: undefined },
  credential: { kind: 'absent' },
  answer: { status: 200, headers: [], body: '', text: '' },
  durationMs: 1,
  forwarded: () => ({ ...FORWARDED, trace: TRACE }),
  trace: undefined,
  ...more,
});

t.test('the gateway’s trace is logged as trace_id and span_id, without flags and state', async t => {
  t.strictSame(requestLogFields(decided({})), { ...FORWARDED, trace_id: TRACE.traceId, span_id: TRACE.spanId });
});

t.test('gatecar’s own span takes precedence over the gateway’s in the log', async t => {
  const span = { traceId: TRACE.traceId, spanId: 'b7ad6b7169203331' };
  t.match(requestLogFields(decided({ trace: { source: 'cache', span } })), {
    trace_id: TRACE.traceId,
    span_id: span.spanId,
  });
});

t.test('a request without a trace is logged without IDs', async t => {
  const line = requestLogFields(
    decided({ trace: { source: 'cache' }, forwarded: () => ({ ...FORWARDED, trace: undefined }) }),
  );
  t.strictSame(line, { ...FORWARDED, trace_id: undefined, span_id: undefined });
});
