import type { AddressInfo } from 'node:net';
import t from 'tap';
import { authorizeFormatOnly } from '../../src/authorize.ts';
import { createResponseRenderer } from '../../src/gateway/auth-response.ts';
import { trustedProxies } from '../../src/gateway/forwarded-headers.ts';
import { createHttpListener } from '../../src/gateway/http/listener.ts';
import { converse, head, statuses } from '../fixtures/conversation.ts';
import { startGatecar, startWithFakeApi } from '../fixtures/gatecar.ts';
import { roomyLimits } from '../fixtures/limits.ts';
import { cacheLookups } from '../fixtures/metrics.ts';
import { RENDERER_OPTIONS } from '../fixtures/renderer-options.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { hangs, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { until } from '../fixtures/until.ts';

const gatecar = await startWithFakeApi();
t.teardown(() => gatecar.stop());
const token = gatecar.token();
const GOOD = `Authorization: Bearer ${token}`;

t.test('500 half-sent heads delay no other client, and are answered once complete', async t => {
  const slow = await Promise.all(Array.from({ length: 500 }, () => converse(gatecar.auth)));
  const whole = head('GET /auth HTTP/1.1', GOOD);
  for (const [i, conversation] of slow.entries()) conversation.send(whole.slice(0, 1 + (i % (whole.length - 2))));
  for (let i = 0; i < 200; i += 1) t.equal((await sendRequest(gatecar.auth, { token })).status, 200);
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
  'of thousands of pipelined requests on one connection one waits for a review, and most are not read',
  async t => {
    // Reviews hang here until the end of the test.
    const api = await startStandIn(hangs);
    const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: api.url, GATECAR_REVIEW_TIMEOUT: '1m' });
    const conversation = await converse(gatecar.auth);
    // Reviews are shared, so the limit of reviews does not interfere.
    conversation.send(head('GET /auth HTTP/1.1', 'Authorization: Bearer abc').repeat(100_000));
    const lookups = (result: string) => cacheLookups(gatecar.ops, result);
    await until(async () => (await lookups('miss')) === 1);
    for (let waiting = -1; waiting !== conversation.socket.writableLength; ) {
      waiting = conversation.socket.writableLength;
      for (let i = 0; i < 20; i += 1)
        t.equal((await sendRequest(gatecar.auth)).status, 401, 'other clients are answered');
    }
    t.equal(await lookups('coalesced'), 0);
    t.ok(conversation.socket.writableLength > 0, 'the other requests wait at the client');
    conversation.destroy();
    await Promise.all([gatecar.stop(), api.close()]);
  },
);

/** Starts the HTTP listener alone, with shorter timeouts than in production. */
async function startWithShortTimeouts(): Promise<string> {
  const { app: server } = createHttpListener({
    ...roomyLimits(),
    authorize: authorizeFormatOnly,
    answer: createResponseRenderer(RENDERER_OPTIONS),
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

t.test(
  'a head that is incomplete at the timeout is rejected, even if it keeps growing, without delay for others',
  async t => {
    const base = await startWithShortTimeouts();
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
    while (!ended) t.equal((await sendRequest(base, { token: 'abc' })).status, 200);
    for (const answers of await all) t.same(statuses(answers), [400]);
  },
);

t.test('an idle connection may outlive the request timeout after a response', async t => {
  const base = await startWithShortTimeouts();
  const whole = head('GET /auth HTTP/1.1', 'Authorization: Bearer abc');
  const idle = await converse(base);
  idle.send(whole);
  await idle.answers(1);
  await (await converse(base)).closed;
  idle.send(whole);
  t.same(statuses(await idle.answers(2)), [200, 200]);
  idle.destroy();
});
