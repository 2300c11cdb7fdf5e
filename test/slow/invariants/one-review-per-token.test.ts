import t from 'tap';
import { startGatecar } from '../../fixtures/gatecar.ts';
import { askPipelined } from '../../fixtures/pipelined.ts';
import { accepts, startStandIn } from '../../fixtures/stand-in-api-server.ts';

t.test('10,000 new tokens are 10,000 reviews, over no more connections than may be', async t => {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_REVIEW_TIMEOUT: '30s',
    GATECAR_CACHE_TTL: '5m',
    GATECAR_REVIEW_MAX_CONCURRENCY: '8',
    // The cluster's documents have a connection of their own.
    GATECAR_JWT_PRECHECK: 'off',
  });
  t.teardown(() => gatecar.stop());
  const callers = Array.from({ length: 4 }, (_, caller) =>
    askPipelined(
      gatecar.auth,
      Array.from({ length: 2500 }, (_, number) => `Bearer token.${caller}.${number}`),
    ),
  );
  for (const counts of await Promise.all(callers)) t.same(counts, { 200: 2500 });
  t.equal(standIn.requests.length, 10_000);
  t.equal(new Set(standIn.requests.map(({ token }) => token)).size, 10_000);
  t.ok(standIn.connections <= 8, `${standIn.connections} connections`);
});
