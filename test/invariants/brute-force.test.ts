import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { startGate } from '../fixtures/gatecar.ts';
import { reaches } from '../fixtures/metrics.ts';

const SETTINGS = {
  GATECAR_CLIENT_FAILURE_LIMIT: '3/60m',
  GATECAR_TRUSTED_PROXIES: '127.0.0.1',
  GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
};

t.test(
  'past the failure limit an address’s unknown tokens cost no review; known ones and other addresses pass',
  async t => {
    const gate = await startGate(SETTINGS);
    t.teardown(() => gate.stop());
    const from = (address: string, token: string) => ask(gate.auth, { token, headers: { 'X-Real-IP': address } });
    const good = gate.token();
    t.equal((await from('192.0.2.1', good)).status, 200);
    for (const guess of ['a', 'b', 'c']) t.equal((await from('192.0.2.1', guess)).status, 401);
    const before = gate.authority.reviews;
    const refused = await from('192.0.2.1', 'd');
    t.equal(refused.status, 401);
    t.match(refused.headers, {
      'x-gatecar-reason': 'too_many_failures',
      'www-authenticate': 'Bearer realm="gatecar"',
      'retry-after': /^3(600|59\d)$/,
    });
    t.equal(refused.body, '{"error":"Too many failed attempts"}');
    t.equal(gate.authority.reviews, before);
    t.equal((await from('192.0.2.1', good)).status, 200);
    t.equal((await from('192.0.2.2', 'd')).headers['x-gatecar-reason'], 'token_rejected');
  },
);

t.test('each forged signature counts against the failure limit, though no review is needed to find it out', async t => {
  const gate = await startGate(SETTINGS);
  t.teardown(() => gate.stop());
  const headers = { 'X-Real-IP': '192.0.2.1' };
  t.equal((await ask(gate.auth, { token: gate.token(), headers })).status, 200);
  await reaches(gate.ops, 'gatecar_jwks_fetches_total{outcome="success"}', 1);
  const before = gate.authority.reviews;
  const reasons: unknown[] = [];
  for (const serviceAccount of ['a', 'b', 'c', 'd']) {
    const token = gate.token({ serviceAccount }).replace(/[^.]+$/, 'Zm9yZ2Vk');
    reasons.push((await ask(gate.auth, { token, headers })).headers['x-gatecar-reason']);
  }
  t.strictSame(reasons, ['token_rejected', 'token_rejected', 'token_rejected', 'too_many_failures']);
  t.equal(gate.authority.reviews, before);
});
