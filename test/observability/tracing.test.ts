import process from 'node:process';
import { Writable } from 'node:stream';
import t, { type Test } from 'tap';
import type { SamplerName, TracingSettings } from '../../src/config/tracing-settings.ts';
import type { Decision } from '../../src/decision/decision.ts';
import type { DecisionEvent } from '../../src/gateway/decision-event.ts';
import type { TraceContext } from '../../src/gateway/trace-context.ts';
import { logger } from '../../src/observability/logging/logger.ts';
import { openTracing } from '../../src/observability/tracing.ts';
import { startOtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { until } from '../fixtures/until.ts';

const PARENT: TraceContext = {
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  spanId: '00f067aa0ba902b7',
  flags: 0xff,
  state: 'a=1',
};
const ALLOW: Decision = { kind: 'allow', identity: undefined };
const OUTAGE: Decision = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 1,
};

const decided = (trace: DecisionEvent['trace'], decision: Decision = ALLOW): DecisionEvent => ({
  protocol: 'http',
  decision,
  credential: { kind: 'absent' },
  durationMs: 1,
  trace,
  answer: { status: decision.kind === 'allow' ? 200 : 503, headers: [], body: '', text: '' },
  forwarded: () => t.fail('forwarded() must not be called') as never,
});

/** The number of spans that is exported immediately. Fewer are exported after five seconds. */
const FULL_BATCH = 512;

async function open(t: Test, settings: Partial<TracingSettings> = {}) {
  const receiver = await startOtlpReceiver();
  t.teardown(() => receiver.close());
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = receiver.url;
  t.teardown(() => {
    delete process.env['OTEL_EXPORTER_OTLP_ENDPOINT'];
  });
  let text = '';
  const destination = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const tracing = openTracing(
    { sampler: 'parentbased_always_on', ratio: 1, warnings: [], ...settings },
    '1.2.3',
    logger('info', destination),
  );
  return { tracing, receiver, log: () => text };
}

t.test('a request’s span is a child of the gateway’s span, and a review’s a child of the request’s', async t => {
  const { tracing, receiver } = await open(t);
  const trace = tracing.startTrace(() => PARENT);
  t.equal(trace.source, 'local');
  const review = trace.startReviewSpan?.();
  t.match(review?.headers, { traceparent: /^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$/, tracestate: 'a=1' });
  review?.end('authenticated');
  trace.source = 'review';
  tracing.decided(decided(trace));
  await tracing.close();
  t.match(receiver.spans, [
    {
      name: 'TokenReview',
      parentId: trace.span?.spanId,
      attributes: { 'gatecar.outcome': 'authenticated' },
      status: 0,
    },
    { name: 'authorize', spanId: trace.span?.spanId, parentId: PARENT.spanId, traceId: PARENT.traceId, status: 0 },
  ]);
  t.match(receiver.spans[1]?.attributes, { 'gatecar.source': 'review' });
  t.match(receiver.spans[0]?.resource, { 'service.name': 'gatecar', 'service.version': '1.2.3' });
});

t.test('without a parent a new trace starts, and an unavailable decision or failed review is a span error', async t => {
  const { tracing, receiver } = await open(t);
  const trace = tracing.startTrace(() => undefined);
  const review = trace.startReviewSpan?.();
  t.strictSame(Object.keys(review?.headers ?? {}), ['traceparent']);
  review?.end('rejected');
  trace.startReviewSpan?.().end('timeout');
  tracing.decided(decided(trace, OUTAGE));
  tracing.decided(decided({ source: 'cache' }));
  tracing.decided(decided(undefined));
  await tracing.close();
  t.match(receiver.spans, [{ status: 0 }, { status: 2 }, { parentId: '', status: 2 }]);
  t.equal(receiver.spans.length, 3);
});

t.test('each sampler records the spans that the OpenTelemetry specification defines', async t => {
  const recorded = async (sampler: SamplerName, ratio = 1): Promise<boolean[]> => {
    const { tracing, receiver } = await open(t, { sampler, ratio });
    const parents = [undefined, { ...PARENT, flags: 1 }, { ...PARENT, flags: 0, state: undefined }];
    const traces = parents.map(parent => tracing.startTrace(() => parent));
    for (const trace of traces) tracing.decided(decided(trace));
    await tracing.close();
    return traces.map(({ span }) => receiver.spans.some(({ spanId }) => spanId === span?.spanId));
  };
  t.strictSame(await recorded('always_on'), [true, true, true]);
  t.strictSame(await recorded('always_off'), [false, false, false]);
  t.strictSame(await recorded('traceidratio', 0), [false, false, false]);
  t.strictSame(await recorded('parentbased_always_on'), [true, true, false]);
  t.strictSame(await recorded('parentbased_always_off'), [false, true, false]);
  t.strictSame(await recorded('parentbased_traceidratio', 0), [false, true, false]);
  t.strictSame(await recorded('parentbased_traceidratio', 1), [true, true, false]);
});

t.test('warnings about tracing settings are logged at start', async t => {
  const { tracing, log } = await open(t, { warnings: ['not supported'] });
  t.match(log(), '"level":"warn"');
  t.match(log(), 'not supported');
  await tracing.close();
});

t.test('a failed trace export is logged once, and once when export succeeds again', async t => {
  process.env['OTEL_EXPORTER_OTLP_TIMEOUT'] = '10000';
  const { tracing, receiver, log } = await open(t);
  const send = async () => {
    const before = receiver.requests.length;
    for (let span = 0; span < FULL_BATCH; span += 1) tracing.decided(decided(tracing.startTrace(() => undefined)));
    await until(() => receiver.requests.length > before);
  };
  receiver.answer = response => response.writeHead(400).end('no');
  await send();
  await until(() => log().includes('trace export failed'));
  t.match(log(), '"message":"Bad Request"', 'the cause is logged');
  await send();
  receiver.answer = response => response.writeHead(200).end();
  await send();
  await until(() => log().includes('trace export succeeded again'));
  t.equal(log().match(/trace export failed/g)?.length, 1);
  await tracing.close();
});

t.test('closing does not wait for a trace receiver that hangs', async t => {
  const { tracing, receiver } = await open(t);
  receiver.answer = () => {};
  tracing.decided(decided(tracing.startTrace(() => undefined)));
  await tracing.close();
  t.equal(receiver.requests.length, 1);
});
