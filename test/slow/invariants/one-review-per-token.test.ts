import t from 'tap';
import { startGatecar } from '../../fixtures/gatecar.ts';
import { sendPipelined } from '../../fixtures/send-pipelined.ts';
import { accepts, startStandIn } from '../../fixtures/stand-in-api-server.ts';

t.test('10,000 new tokens cost 10,000 reviews over at most the configured number of connections', async t => {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_REVIEW_TIMEOUT: '30s',
    GATECAR_CACHE_TTL: '5m',
    GATECAR_REVIEW_MAX_CONCURRENCY: '8',
    // JWKS documents use a connection of their own.
    GATECAR_JWT_PRECHECK: 'off',
  });
  t.teardown(() => gatecar.stop());
  const callers = Array.from({ length: 4 }, (_, caller) =>
    sendPipelined(
      gatecar.auth,
      Array.from({ length: 2500 }, (_, number) => `Bearer token.${caller}.${number}`),
    ),
  );
  for (const statusCounts of await Promise.all(callers)) t.same(statusCounts, { 200: 2500 });
  t.equal(standIn.requests.length, 10_000);
  t.equal(new Set(standIn.requests.map(({ token }) => token)).size, 10_000);
  t.ok(standIn.connections <= 8, `${standIn.connections} connections`);
});
