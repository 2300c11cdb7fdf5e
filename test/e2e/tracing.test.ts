import t from 'tap';
import { startOtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

t.setTimeout(startLimitMs);

t.test('tracing with a real API server', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const token = await api.requestToken('apps', 'web', { audiences: ['bindcar'] });
  const receiver = await startOtlpReceiver();
  t.teardown(() => receiver.close());

  t.test('gateway, request and its review by the API server form one trace', async t => {
    const gatecar = await startGatecar(t, {
      ...settings,
      GATECAR_TRUSTED_PROXIES: '127.0.0.1',
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    });
    const [traceId, parentId] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
    const headers = { traceparent: `00-${traceId}-${parentId}-01` };
    t.equal((await sendRequest(gatecar.auth, { token, headers })).status, 200);
    t.equal((await sendRequest(gatecar.auth, { token, headers })).status, 200);
    await gatecar.stop();
    t.match(
      receiver.spans.map(({ name }) => name),
      ['TokenReview', 'authorize', 'authorize'],
    );
    const [review, first, second] = receiver.spans;
    t.match(
      [first, second],
      [
        { traceId, parentId },
        { traceId, parentId },
      ],
    );
    t.match(first, { attributes: { 'gatecar.source': 'review' } });
    t.match(second, { attributes: { 'gatecar.source': 'cache' } });
    t.match(review, { traceId, parentId: first?.spanId, attributes: { 'gatecar.outcome': 'authenticated' } });
  });
});
