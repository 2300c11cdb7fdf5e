import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { ask } from '../../fixtures/ask.ts';
import { startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { isOpen } from '../../fixtures/is-open.ts';
import { metric, reaches } from '../../fixtures/metrics.ts';
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
  const readiness = async () => (await ask(gatecar.ops, { path: '/readyz' })).status;
  while ((await readiness()) !== 200);
  /** Whether new connections are still accepted. */
  const accepting = (): Promise<boolean> => isOpen(new URL(gatecar.auth).host);
  /** A connection that sends nothing; resolves when gatecar has let it go. */
  const silent = async (): Promise<{ readonly gone: Promise<unknown> }> => {
    const { hostname, port } = new URL(gatecar.auth);
    const socket = connect(Number(port), hostname).resume();
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    return { gone: once(socket, 'close') };
  };
  return { standIn, gatecar, readiness, accepting, silent };
}

t.test('under load, whoever heeds the readiness loses no request', async t => {
  const { gatecar, readiness } = await start(t, accepts(), { GATECAR_SHUTDOWN_DELAY: '3s', GATECAR_CACHE_TTL: '50ms' });
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  t.teardown(() => agent.destroy());
  const answered = { before: 0, after: 0 };
  const lost: unknown[] = [];
  let signalled = false;
  let routed = true;
  const client = async (_: unknown, number: number): Promise<void> => {
    for (let sent = 0; routed; sent += 1) {
      // Some keep their connection, some open one for each request, and not all tokens are known.
      const question = { token: `token-${number}-${sent % 10}`, ...(number % 4 > 0 && { agent }) };
      const phase = signalled ? 'after' : 'before';
      try {
        const { status } = await ask(gatecar.auth, question);
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
  // As an endpoint controller does: what is unready gets no more requests.
  while ((await readiness()) === 200);
  t.equal(await readiness(), 503);
  const { after } = answered;
  while (answered.after < after + 100) await readiness();
  routed = false;
  await clients;
  t.same(lost, []);
  t.ok(answered.after >= 100, 'unready, it went on serving');
  t.equal(await gatecar.exitCode, 0);
  t.match(gatecar.output(), '"msg":"stopped"');
});

t.test('what waits for a slow review when the signal comes is answered, and nothing new is accepted', async t => {
  const held = heldBack(accepts());
  const { gatecar, readiness, accepting, silent } = await start(t, held.behaviour, {
    GATECAR_REVIEW_MAX_CONCURRENCY: '4',
  });
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const waiting = Array.from({ length: 12 }, (_, i) => ask(gatecar.auth, { token: `token-${i}`, agent }));
  await reaches(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}', 8);
  const idle = await silent();
  gatecar.kill('SIGTERM');
  while (await accepting());
  await idle.gone;
  t.equal(await readiness(), 503);
  t.equal(await metric(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}'), 8, 'none was given up');
  held.letGo();
  const replies = await Promise.all(waiting);
  t.same([...new Set(replies.map(reply => reply.status))], [200]);
  t.same([...new Set(replies.map(reply => reply.headers.connection))], ['close'], 'gateways are asked to leave');
  t.equal(await gatecar.exitCode, 0);
});

t.test('a request whose head is half sent when the signal comes is answered', async t => {
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
  // Both went out together; the answer to another connection says that the bytes of this one have been read.
  await ask(gatecar.auth, {});
  const idle = await silent();
  gatecar.kill('SIGTERM');
  while (await accepting());
  await idle.gone;
  socket.write('rer the-token\r\n\r\n');
  await once(socket, 'end');
  t.match(received, /^HTTP\/1\.1 200 OK\r\n.*\r\nConnection: close\r\n/s);
  t.equal(await gatecar.exitCode, 0);
});

t.test('idle connections do not hold up the end', async t => {
  const { gatecar, silent } = await start(t, accepts(), {});
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  await silent();
  await Promise.all(Array.from({ length: 8 }, () => ask(gatecar.auth, { token: 'the-token', agent })));
  gatecar.kill('SIGTERM');
  t.equal(await gatecar.exitCode, 0);
  t.notMatch(gatecar.output(), 'requests in flight');
});

t.test('what hangs holds up the end for the shutdown timeout and no longer', async t => {
  const { gatecar, standIn } = await start(t, accepts(), { GATECAR_SHUTDOWN_TIMEOUT: '200ms' });
  standIn.behaviour = hangs;
  const hung = ask(gatecar.auth, { token: 'the-token' });
  await reaches(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}', 1);
  gatecar.kill('SIGTERM');
  await t.rejects(hung);
  t.equal(await gatecar.exitCode, 0);
  t.match(gatecar.output(), 'shutdown timeout reached with requests in flight; closing connections');
});
