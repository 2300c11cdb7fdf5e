import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { isOpen } from '../../fixtures/is-open.ts';
import { metric, reaches } from '../../fixtures/metrics.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { accepts, type Behaviour, hangs, heldBack, startStandIn } from '../../fixtures/stand-in-api-server.ts';

t.setTimeout(120_000);

async function start(t: Test, behaviour: Behaviour, settings: Record<string, string>) {
  const standIn = await startStandIn(behaviour);
  t.teardown(() => standIn.close());
  const gatecar = await startGatecarProcess({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_REVIEW_TIMEOUT: '60s',
    GATECAR_SHUTDOWN_TIMEOUT: '60s',
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  const readiness = async () => (await sendRequest(gatecar.ops, { path: '/readyz' })).status;
  while ((await readiness()) !== 200);
  /** Whether gatecar still accepts new connections. */
  const accepting = (): Promise<boolean> => isOpen(new URL(gatecar.auth).host);
  /** Opens a connection that sends nothing; `gone` resolves when gatecar has closed it. */
  const silent = async (): Promise<{ readonly gone: Promise<unknown> }> => {
    const { hostname, port } = new URL(gatecar.auth);
    const socket = connect(Number(port), hostname).resume();
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    return { gone: once(socket, 'close') };
  };
  return { standIn, gatecar, readiness, accepting, silent };
}

t.test('under load, a client that follows the readiness probe loses no request on shutdown', async t => {
  const { gatecar, readiness } = await start(t, accepts(), { GATECAR_SHUTDOWN_DELAY: '3s', GATECAR_CACHE_TTL: '50ms' });
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  t.teardown(() => agent.destroy());
  const answered = { before: 0, after: 0 };
  const lost: unknown[] = [];
  let signalled = false;
  let routed = true;
  const client = async (_: unknown, number: number): Promise<void> => {
    for (let sent = 0; routed; sent += 1) {
      // Some clients reuse their connection, others open one per request. Not all tokens are
      // cached.
      const request = { token: `token-${number}-${sent % 10}`, ...(number % 4 > 0 && { agent }) };
      const phase = signalled ? 'after' : 'before';
      try {
        const { status } = await sendRequest(gatecar.auth, request);
        if (status === 200) answered[phase] += 1;
        else lost.push(status);
      } catch (error) {
        lost.push(error);
      }
    }
  };
  const clients = Promise.all(Array.from({ length: 12 }, client));
  while (answered.before < 500) await readiness();
  gatecar.kill('SIGTERM');
  signalled = true;
  // Like an endpoint controller: an unready pod receives no more requests.
  while ((await readiness()) === 200);
  t.equal(await readiness(), 503);
  const { after } = answered;
  while (answered.after < after + 100) await readiness();
  routed = false;
  await clients;
  t.same(lost, []);
  t.ok(answered.after >= 100, 'gatecar continued to serve while unready');
  t.equal(await gatecar.exitCode, 0);
  t.match(gatecar.output(), '"msg":"stopped"');
});

t.test('requests that wait for a slow review at SIGTERM are answered, and no new connection is accepted', async t => {
  const delayed = heldBack(accepts());
  const { gatecar, readiness, accepting, silent } = await start(t, delayed.behaviour, {
    GATECAR_REVIEW_MAX_CONCURRENCY: '4',
  });
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const waiting = Array.from({ length: 12 }, (_, i) => sendRequest(gatecar.auth, { token: `token-${i}`, agent }));
  await reaches(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}', 8);
  const idle = await silent();
  gatecar.kill('SIGTERM');
  while (await accepting());
  await idle.gone;
  t.equal(await readiness(), 503);
  t.equal(await metric(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}'), 8, 'no request was dropped');
  delayed.letGo();
  const replies = await Promise.all(waiting);
  t.same([...new Set(replies.map(reply => reply.status))], [200]);
  t.same(
    [...new Set(replies.map(reply => reply.headers.connection))],
    ['close'],
    'every response closes its connection',
  );
  t.equal(await gatecar.exitCode, 0);
});

t.test('a request whose head is half sent at SIGTERM is answered', async t => {
  const { gatecar, accepting, silent } = await start(t, accepts(), {});
  const { hostname, port } = new URL(gatecar.auth);
  const socket = connect(Number(port), hostname);
  t.teardown(() => socket.destroy());
  let received = '';
  socket.setEncoding('latin1').on('data', chunk => {
    received += chunk;
  });
  socket.write('GET /auth HTTP/1.1\r\nHost: x\r\n\r\n');
  while (!received.includes('}')) await once(socket, 'data');
  received = '';
  socket.write('GET /auth HTTP/1.1\r\nHost: x\r\nAuthorization: Bea');
  // Both were sent together. The response on another connection shows that these bytes were read.
  await sendRequest(gatecar.auth, {});
  const idle = await silent();
  gatecar.kill('SIGTERM');
  while (await accepting());
  await idle.gone;
  socket.write('rer the-token\r\n\r\n');
  await once(socket, 'end');
  t.match(received, /^HTTP\/1\.1 200 OK\r\n.*\r\nConnection: close\r\n/s);
  t.equal(await gatecar.exitCode, 0);
});

t.test('idle connections do not delay the shutdown', async t => {
  const { gatecar, silent } = await start(t, accepts(), {});
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  await silent();
  await Promise.all(Array.from({ length: 8 }, () => sendRequest(gatecar.auth, { token: 'the-token', agent })));
  gatecar.kill('SIGTERM');
  t.equal(await gatecar.exitCode, 0);
  t.notMatch(gatecar.output(), 'requests in flight');
});

t.test('a hung request delays the shutdown by no more than the shutdown timeout', async t => {
  const { gatecar, standIn } = await start(t, accepts(), { GATECAR_SHUTDOWN_TIMEOUT: '200ms' });
  standIn.behaviour = hangs;
  const hung = sendRequest(gatecar.auth, { token: 'the-token' });
  await reaches(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}', 1);
  gatecar.kill('SIGTERM');
  await t.rejects(hung);
  t.equal(await gatecar.exitCode, 0);
  t.match(gatecar.output(), 'shutdown timeout reached with requests in flight; closing connections');
});
