import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { auditLines, faultsOf } from '../../fixtures/audit-lines.ts';
import { envoyClient } from '../../fixtures/envoy-client.ts';
import { everywhere, leaked, newJwt } from '../../fixtures/find-token.ts';
import { type GatecarProcess, startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from '../../fixtures/otlp-receiver.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { accepts, answers, startStandIn } from '../../fixtures/stand-in-api-server.ts';
import { until } from '../../fixtures/until.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const headers = { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'gateway=1' };
const NO_PARENT = '';

// Each process loads the tracing library, which is slow on a busy machine.
t.setTimeout(240_000);

async function start(t: Test, settings: Record<string, string> = {}) {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const receiver = await startOtlpReceiver();
  t.teardown(() => receiver.close());
  const gatecar = await startGatecarProcess({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_GRPC_LISTEN: '127.0.0.1:0',
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
    GATECAR_AUDIT_LOG: 'all',
    GATECAR_LOG_LEVEL: 'info',
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  return { standIn, receiver, gatecar };
}

/** Stops gatecar and returns all the spans that it exported. */
async function spansOf(gatecar: GatecarProcess, receiver: OtlpReceiver): Promise<ReceivedSpan[]> {
  gatecar.kill('SIGTERM');
  await gatecar.exitCode;
  return receiver.spans;
}

t.test('gateway, request and review form one trace, over HTTP and gRPC', async t => {
  const { standIn, receiver, gatecar } = await start(t);
  await sendRequest(gatecar.auth, { token: 'over-http', headers });
  const envoy = envoyClient(gatecar.grpc);
  const check = { attributes: { request: { http: { headers: { authorization: 'Bearer over-grpc' } } } } };
  await envoy.check(check, undefined, headers);
  envoy.close();
  const spans = await spansOf(gatecar, receiver);

  for (const [index, protocol] of ['http', 'grpc'].entries()) {
    const request = spans.find(({ attributes }) => attributes['gatecar.protocol'] === protocol);
    t.match(request, { traceId: TRACE, parentId: SPAN, state: 'gateway=1', name: 'authorize', kind: 2, status: 0 });
    t.strictSame(request?.attributes, {
      'gatecar.protocol': protocol,
      'gatecar.decision': 'allow',
      'gatecar.source': 'review',
      'http.response.status_code': 200,
    });
    const review = spans.find(({ parentId }) => parentId === request?.spanId);
    t.match(review, {
      traceId: TRACE,
      name: 'TokenReview',
      kind: 3,
      attributes: { 'gatecar.outcome': 'authenticated' },
    });
    t.match(standIn.requests[index]?.headers, {
      traceparent: `00-${TRACE}-${review?.spanId}-01`,
      tracestate: 'gateway=1',
    });
    t.match(request?.resource, { 'service.name': 'gatecar', 'service.version': String });
    t.ok(auditLines(gatecar.output()).some(line => line.trace_id === TRACE && line.span_id === request?.spanId));
  }
  t.equal(spans.length, 4);
  t.strictSame(faultsOf(auditLines(gatecar.output())), []);
});

t.test('a request without a review has no review span, and an outage has error status', async t => {
  const { standIn, receiver, gatecar } = await start(t);
  for (const token of ['good', 'good', '']) await sendRequest(gatecar.auth, { token, headers });
  standIn.behaviour = answers(500, '');
  await sendRequest(gatecar.auth, { token: 'other', headers });
  const spans = await spansOf(gatecar, receiver);
  const requests = spans.filter(({ name }) => name === 'authorize');
  t.match(
    requests.map(({ attributes, status }) => ({ source: attributes['gatecar.source'], status })),
    [
      { source: 'review', status: 0 },
      { source: 'cache', status: 0 },
      { source: 'local', status: 0 },
      { source: 'review', status: 2 },
    ],
  );
  t.match(requests[2]?.attributes, { 'gatecar.decision': 'deny', 'gatecar.reason': 'token_empty' });
  t.match(requests[3]?.attributes, { 'gatecar.reason': 'authority_unavailable', 'gatecar.cause': 'server_error' });
  const reviews = spans.filter(({ name }) => name === 'TokenReview');
  t.match(reviews, [
    { attributes: { 'gatecar.outcome': 'authenticated' } },
    { attributes: { 'gatecar.outcome': 'server_error' }, status: 2 },
  ]);
});

t.test('a peer that is not a trusted proxy starts a new trace, whatever context it sends', async t => {
  const { receiver, gatecar } = await start(t, { GATECAR_TRUSTED_PROXIES: '192.0.2.1' });
  await sendRequest(gatecar.auth, { headers });
  const [span] = await spansOf(gatecar, receiver);
  t.match(span, { parentId: NO_PARENT, state: '' });
  t.not(span?.traceId, TRACE);
});

t.test('exported spans contain no token, wherever the client put it', async t => {
  const { receiver, gatecar } = await start(t);
  const token = newJwt();
  await sendRequest(gatecar.auth, { token, headers: everywhere(token) });
  await sendRequest(gatecar.auth, { headers: everywhere(token) });
  const hex = 'f'.repeat(32);
  await sendRequest(gatecar.auth, { token: hex, headers: { traceparent: `00-${hex}-${SPAN}-01` } });
  t.equal((await spansOf(gatecar, receiver)).length, 5);
  for (const { body } of receiver.requests) {
    t.equal(leaked(body.toString('latin1'), [token]), undefined);
    t.notOk(body.toString('hex').includes(hex));
  }
});

t.test('the standard OpenTelemetry variables apply: name, headers, attributes, sampler', async t => {
  const { receiver, gatecar } = await start(t, {
    OTEL_SERVICE_NAME: 'doorman',
    OTEL_RESOURCE_ATTRIBUTES: 'team=dns',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-key=secret',
    OTEL_TRACES_SAMPLER: 'parentbased_always_off',
  });
  await sendRequest(gatecar.auth);
  await sendRequest(gatecar.auth, { headers: { traceparent: `00-${TRACE}-${SPAN}-00` } });
  await sendRequest(gatecar.auth, { headers });
  const spans = await spansOf(gatecar, receiver);
  t.match(spans, [{ parentId: SPAN, resource: { 'service.name': 'doorman', team: 'dns' } }]);
  t.match(receiver.requests, [{ path: '/v1/traces', headers: { 'x-key': 'secret' } }]);
  t.notMatch(gatecar.output(), 'secret');
});

t.test('a failing receiver delays no response; failure and recovery are logged once each', async t => {
  const { receiver, gatecar } = await start(t);
  receiver.answer = response => response.writeHead(400).end('no');
  const occurrences = (text: string) => gatecar.output().split(text).length - 1;
  for (let batch = 1; batch <= 3; batch += 1) {
    t.equal((await sendRequest(gatecar.auth, { token: 'good' })).status, 200);
    await until(() => receiver.requests.length === batch);
  }
  receiver.answer = response => response.writeHead(200).end();
  await sendRequest(gatecar.auth, { token: 'good' });
  await until(() => occurrences('trace export succeeded again') === 1);
  t.equal(occurrences('trace export failed'), 1);
});

t.test('a receiver that hangs or is unreachable delays neither responses nor the shutdown', async t => {
  for (const settings of [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }]) {
    const { receiver, gatecar } = await start(t, settings);
    receiver.answer = () => {};
    const agent = new Agent({ keepAlive: true, maxSockets: 16 });
    const replies = await Promise.all(
      Array.from({ length: 5000 }, () => sendRequest(gatecar.auth, { token: 'good', agent })),
    );
    agent.destroy();
    t.strictSame([...new Set(replies.map(({ status }) => status))], [200]);
    gatecar.kill('SIGTERM');
    t.equal(await gatecar.exitCode, 0);
  }
});

t.test(
  'without an endpoint the OpenTelemetry SDK is not loaded, and no trace context reaches the API server',
  async t => {
    // The metrics library loads the API's empty interfaces, as CommonJS.
    const isOpenTelemetry = (url: string) => /\/@opentelemetry\/(?!api\/.*\.cjs$)/.test(url);
    const { standIn, gatecar } = await start(t, { OTEL_EXPORTER_OTLP_ENDPOINT: '', OTEL_SERVICE_NAME: 'x' });
    await sendRequest(gatecar.auth, { token: 'good', headers });
    t.strictSame((await gatecar.modules()).filter(isOpenTelemetry), []);
    t.notOk('traceparent' in (standIn.requests[0]?.headers ?? {}));
    const traced = await start(t);
    t.ok((await traced.gatecar.modules()).some(isOpenTelemetry), 'with an endpoint the modules are found');
  },
);
