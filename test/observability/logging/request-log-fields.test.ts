import t from 'tap';
import type { DecisionEvent } from '../../../src/gateway/decision-event.ts';
import { requestLogFields } from '../../../src/observability/logging/request-log-fields.ts';

const SAID = { clientAddress: '192.0.2.1', requestId: 'r', method: 'GET', uri: '/x' };
const TRACE = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7', flags: 1, state: 'a=b' };

const decided = (more: Partial<DecisionEvent>): DecisionEvent => ({
  ...{ protocol: 'http', decision: { kind: 'allow', identity: undefined }, credential: { kind: 'absent' } },
  answer: { status: 200, headers: [], body: '', text: '' },
  durationMs: 1,
  forwarded: () => ({ ...SAID, trace: TRACE }),
  trail: undefined,
  ...more,
});

t.test('the gateway’s trace is told by the names that collectors know, and nothing else of it', async t => {
  t.strictSame(requestLogFields(decided({})), { ...SAID, trace_id: TRACE.traceId, span_id: TRACE.spanId });
});

t.test('our own span goes before the gateway’s', async t => {
  const span = { traceId: TRACE.traceId, spanId: 'b7ad6b7169203331' };
  t.match(requestLogFields(decided({ trail: { source: 'cache', span } })), {
    trace_id: TRACE.traceId,
    span_id: span.spanId,
  });
});

t.test('a request without a trace has no trace id in its line', async t => {
  const line = requestLogFields(
    decided({ trail: { source: 'cache' }, forwarded: () => ({ ...SAID, trace: undefined }) }),
  );
  t.strictSame(line, { ...SAID, trace_id: undefined, span_id: undefined });
});
