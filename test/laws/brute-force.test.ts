import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { startGate } from '../fixtures/gatecar.ts';

t.test(
  'past the failure limit an address’s unknown tokens cost no review; known ones and other addresses pass',
  async t => {
    const gate = await startGate({
      GATECAR_FAILURE_LIMIT: '3/60m',
      GATECAR_TRUSTED_PEERS: '127.0.0.1',
      GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
    });
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
