import { Agent } from 'node:http';
import t from 'tap';
import { cacheLookups, metric } from '../fixtures/metrics.ts';
import { type Reply, sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';
import { underLoad } from './fixtures/support/under-load.ts';
import { until } from './fixtures/support/until.ts';

// SIGTERM under load, as the kubelet sends it.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test(
  'gatecar shuts down without losing requests',
  { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const token = await api.requestToken('apps', 'web', { audiences });

    t.test(
      'directly connected clients get responses until they are asked to close, and gatecar exits with 0',
      async t => {
        const gatecar = await startGatecar(t, { ...settings, GATECAR_SHUTDOWN_DELAY: '3s', GATECAR_CACHE_TTL: '0' });
        const clients = Array.from({ length: 8 }, () => {
          const agent = new Agent({ keepAlive: true, maxSockets: 1 });
          t.teardown(() => agent.destroy());
          return clientUntilClose(gatecar, token, agent);
        });
        await until('the clients send requests', async () => (await allowed(gatecar)) > 100);
        gatecar.signal('SIGTERM');
        await until('gatecar is unready', async () => (await gatecar.readyz()).status === 503);
        t.match((await gatecar.readyz()).body, '[-]shutdown failed: draining');
        t.equal((await sendRequest(gatecar.auth, { token })).status, 200, 'it accepts new connections while unready');
        for (const { replies, error } of await Promise.all(clients)) {
          t.equal(error, undefined);
          t.ok(replies.every(({ status }) => status === 200));
          t.equal(replies.at(-1)?.headers.connection, 'close', 'the last response closes the connection');
        }
        t.equal(await gatecar.end(), 'exit code 0');
        const messages = (await gatecar.logs()).map(({ msg }) => msg);
        t.ok(messages.includes('draining'));
        t.equal(messages.at(-1), 'stopped');
        await t.rejects(sendRequest(gatecar.auth, { token }), { code: 'ECONNREFUSED' });
      },
    );

    t.test('reviews in flight are awaited on shutdown', async t => {
      const gatecar = await startGatecar(t, { ...settings, GATECAR_REVIEW_TIMEOUT: '30s' });
      t.teardown(() => api.resume());
      await api.pause();
      const answers = Promise.all(Array.from({ length: 20 }, () => sendRequest(gatecar.auth, { token })));
      await until('the requests wait', async () => (await cacheLookups(gatecar.ops, 'coalesced')) === 19);
      gatecar.signal('SIGTERM');
      await until('gatecar accepts no more connections', () =>
        sendRequest(gatecar.auth).then(
          () => false,
          () => true,
        ),
      );
      api.resume();
      t.strictSame(new Set((await answers).map(({ status }) => status)), new Set([200]));
      t.equal(await gatecar.end(), 'exit code 0');
    });

    t.test('past the shutdown timeout gatecar exits even with requests in flight', async t => {
      const gatecar = await startGatecar(t, {
        ...settings,
        GATECAR_REVIEW_TIMEOUT: '1m',
        GATECAR_SHUTDOWN_TIMEOUT: '500ms',
      });
      t.teardown(() => api.resume());
      await api.pause();
      const answer = sendRequest(gatecar.auth, { token });
      answer.catch(() => {});
      await until('the request waits', async () => (await cacheLookups(gatecar.ops, 'miss')) === 1);
      gatecar.signal('SIGTERM');
      t.equal(await gatecar.end(), 'exit code 0');
      api.resume();
      await t.rejects(answer);
      t.match(
        (await gatecar.logs()).find(({ level }) => level === 'warn'),
        { msg: /requests in flight/ },
      );
    });

    t.test('a second signal ends gatecar at once', async t => {
      const slow = { ...settings, GATECAR_SHUTDOWN_DELAY: '30s' };
      for (const [signal, code] of [
        ['SIGTERM', 143],
        ['SIGINT', 130],
      ] as const) {
        const gatecar = await startGatecar(t, slow);
        gatecar.signal(signal);
        await until('gatecar drains', async () => (await gatecar.readyz()).status === 503);
        gatecar.signal(signal);
        t.equal(await gatecar.end(), `exit code ${code}`);
      }
    });

    t.test('behind nginx with a second gatecar, no client sees the shutdown', async t => {
      const leaving = await startGatecar(t, { ...settings, GATECAR_SHUTDOWN_DELAY: '500ms' });
      const staying = await startGatecar(t, settings);
      const application = await startApplication(t);
      const nginx = await startNginx(t, await exampleConfig([leaving.auth, staying.auth], application.url));
      const statuses = await underLoad(t, nginx.url, token, async () => {
        await until('both serve requests', async () => (await allowed(leaving)) > 50 && (await allowed(staying)) > 50);
        leaving.signal('SIGTERM');
        t.equal(await leaving.end(), 'exit code 0');
        const before = await allowed(staying);
        await until('the second gatecar continues', async () => (await allowed(staying)) > before + 100);
      });
      t.strictSame(statuses, new Array(8).fill([200]));
    });

    t.test('behind nginx alone, every request is answered, with 200 until gatecar is gone', async t => {
      const gatecar = await startGatecar(t, { ...settings, GATECAR_SHUTDOWN_DELAY: '500ms' });
      const application = await startApplication(t);
      const nginx = await startNginx(t, await exampleConfig([gatecar.auth], application.url));
      const statuses = await underLoad(t, nginx.url, token, async () => {
        await until('gatecar serves requests', async () => (await allowed(gatecar)) > 50);
        gatecar.signal('SIGTERM');
        t.equal(await gatecar.end(), 'exit code 0');
        await until('gatecar is gone', async () => (await sendRequest(nginx.url, { token })).status === 503);
      });
      t.strictSame(statuses, new Array(8).fill([200, 503]));
    });
  },
);

/** Sends requests on one connection until a response closes it. */
async function clientUntilClose(gatecar: GatecarProcess, token: string, agent: Agent) {
  const replies: Reply[] = [];
  try {
    do replies.push(await sendRequest(gatecar.auth, { token, agent }));
    while (replies.at(-1)?.headers.connection !== 'close');
    return { replies, error: undefined };
  } catch (error) {
    return { replies, error };
  }
}

function allowed(gatecar: GatecarProcess): Promise<number> {
  return metric(gatecar.ops, 'gatecar_requests_total{protocol="http",decision="allow",reason=""}');
}
