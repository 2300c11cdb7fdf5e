import t from 'tap';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { reaches } from '../fixtures/metrics.ts';
import { sendRequest } from '../fixtures/send-request.ts';

const SETTINGS = {
  GATECAR_CLIENT_FAILURE_LIMIT: '3/60m',
  GATECAR_TRUSTED_PROXIES: '127.0.0.1',
  GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
};

t.test(
  'past the failure limit, unknown tokens of that address cost no review; cached tokens and other addresses pass',
  async t => {
    const gatecar = await startWithFakeApi(SETTINGS);
    t.teardown(() => gatecar.stop());
    const from = (address: string, token: string) =>
      sendRequest(gatecar.auth, { token, headers: { 'X-Real-IP': address } });
    const validToken = gatecar.token();
    t.equal((await from('192.0.2.1', validToken)).status, 200);
    for (const guess of ['a', 'b', 'c']) t.equal((await from('192.0.2.1', guess)).status, 401);
    const before = gatecar.apiServer.reviews;
    const limited = await from('192.0.2.1', 'd');
    t.equal(limited.status, 401);
    t.match(limited.headers, {
      'x-gatecar-reason': 'too_many_failures',
      'www-authenticate': 'Bearer realm="gatecar"',
      'retry-after': /^3(600|59\d)$/,
    });
    t.equal(limited.body, '{"error":"Too many failed attempts"}');
    t.equal(gatecar.apiServer.reviews, before);
    t.equal((await from('192.0.2.1', validToken)).status, 200);
    t.equal((await from('192.0.2.2', 'd')).headers['x-gatecar-reason'], 'token_rejected');
  },
);

t.test('each invalid signature counts against the failure limit, although it is found without a review', async t => {
  const gatecar = await startWithFakeApi(SETTINGS);
  t.teardown(() => gatecar.stop());
  const headers = { 'X-Real-IP': '192.0.2.1' };
  t.equal((await sendRequest(gatecar.auth, { token: gatecar.token(), headers })).status, 200);
  await reaches(gatecar.ops, 'gatecar_jwks_fetches_total{outcome="success"}', 1);
  const before = gatecar.apiServer.reviews;
  const reasons: unknown[] = [];
  for (const serviceAccount of ['a', 'b', 'c', 'd']) {
    const token = gatecar.token({ serviceAccount }).replace(/[^.]+$/, 'Zm9yZ2Vk');
    reasons.push((await sendRequest(gatecar.auth, { token, headers })).headers['x-gatecar-reason']);
  }
  t.strictSame(reasons, ['token_rejected', 'token_rejected', 'token_rejected', 'too_many_failures']);
  t.equal(gatecar.apiServer.reviews, before);
});
