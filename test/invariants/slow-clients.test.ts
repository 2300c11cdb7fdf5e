import type { AddressInfo } from 'node:net';
import t from 'tap';
import { authorizeFormatOnly } from '../../src/authorize.ts';
import { createResponseRenderer } from '../../src/gateway/auth-response.ts';
import { trustedProxies } from '../../src/gateway/forwarded-headers.ts';
import { createHttpListener } from '../../src/gateway/http/listener.ts';
import { ask } from '../fixtures/ask.ts';
import { converse, head, statuses } from '../fixtures/conversation.ts';
import { startGate, startGatecar } from '../fixtures/gatecar.ts';
import { roomyLimits } from '../fixtures/limits.ts';
import { metric } from '../fixtures/metrics.ts';
import { hangs, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { until } from '../fixtures/until.ts';

const gate = await startGate();
t.teardown(() => gate.stop());
const token = gate.token();
const GOOD = `Authorization: Bearer ${token}`;

t.test('500 half-sent heads keep nobody from an answer, and are answered when they are finished', async t => {
  const slow = await Promise.all(Array.from({ length: 500 }, () => converse(gate.auth)));
  const whole = head('GET /auth HTTP/1.1', GOOD);
  for (const [i, conversation] of slow.entries()) conversation.send(whole.slice(0, 1 + (i % (whole.length - 2))));
  for (let i = 0; i < 200; i += 1) t.equal((await ask(gate.auth, { token })).status, 200);
  t.same(
    slow.filter(conversation => conversation.received() !== ''),
    [],
  );
  for (const [i, conversation] of slow.entries()) conversation.send(whole.slice(1 + (i % (whole.length - 2))));
  for (const conversation of slow) {
    t.same(statuses(await conversation.answers(1)), [200]);
    conversation.destroy();
  }
});

t.test(
  'of thousands of requests at once on one connection, one waits for a review, and most are not even read',
  async t => {
    // Whatever waits here waits for good.
    const api = await startStandIn(hangs);
    const gate = await startGatecar({ GATECAR_KUBE_API_URL: api.url, GATECAR_REVIEW_TIMEOUT: '1m' });
    const conversation = await converse(gate.auth);
    // One question: reviews are shared, so that no bound on their number is in the way.
    conversation.send(head('GET /auth HTTP/1.1', 'Authorization: Bearer abc').repeat(100_000));
    const lookups = (result: string) => metric(gate.ops, `gatecar_cache_lookups_total{result="${result}"}`);
    await until(async () => (await lookups('miss')) === 1);
    for (let waiting = -1; waiting !== conversation.socket.writableLength; ) {
      waiting = conversation.socket.writableLength;
      for (let i = 0; i < 20; i += 1) t.equal((await ask(gate.auth)).status, 401, 'others are answered');
    }
    t.equal(await lookups('coalesced'), 0);
    t.ok(conversation.socket.writableLength > 0, 'the others wait at the client');
    conversation.destroy();
    await Promise.all([gate.stop(), api.close()]);
  },
);

/** The listener alone, with less patience than it has in production. */
async function impatient(): Promise<string> {
  const { app: server } = createHttpListener({
    ...roomyLimits(),
    authorize: authorizeFormatOnly,
    answer: createResponseRenderer({
      ...{ policyDeniedStatus: 401, unavailableStatus: 503, errorDetail: 'full' },
      identityHeaderPrefix: 'X-Auth-Request-',
    }),
    trusted: trustedProxies([]),
    clientIpHeader: undefined,
    requestTimeoutMs: 200,
    timeoutCheckMs: 20,
  });
  await server.ready();
  await new Promise<void>(resolve => server.server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.server.close();
    server.server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;
}

t.test('a head that is not whole in time is refused, also one that keeps coming, and others are answered', async t => {
  const base = await impatient();
  const whole = head('GET /auth HTTP/1.1', 'Authorization: Bearer abc');
  const slow = await Promise.all(Array.from({ length: 100 }, () => converse(base)));
  for (const [i, conversation] of slow.entries()) conversation.send(whole.slice(0, i % (whole.length - 1)));
  const dripping = await converse(base);
  dripping.send(whole.slice(0, -2));
  const drip = setInterval(() => dripping.send('X: 1\r\n'), 5);
  t.teardown(() => clearInterval(drip));

  let ended = false;
  const all = Promise.all([...slow, dripping].map(({ closed }) => closed)).finally(() => {
    ended = true;
  });
  while (!ended) t.equal((await ask(base, { token: 'abc' })).status, 200);
  for (const answers of await all) t.same(statuses(answers), [400]);
});

t.test('a connection that has been answered may stay idle for longer than that', async t => {
  const base = await impatient();
  const whole = head('GET /auth HTTP/1.1', 'Authorization: Bearer abc');
  const idle = await converse(base);
  idle.send(whole);
  await idle.answers(1);
  await (await converse(base)).closed;
  idle.send(whole);
  t.same(statuses(await idle.answers(2)), [200, 200]);
  idle.destroy();
});
