import { Agent } from 'node:http';
import t from 'tap';
import { ask, type Reply } from '../fixtures/ask.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';
import { underLoad } from './fixtures/support/under-load.ts';
import { until } from './fixtures/support/until.ts';

// SIGTERM, as the kubelet sends it, while requests keep coming.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('shutdown', { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const token = await api.requestToken('apps', 'web', { audiences });

  t.test('directly: whoever asks gets an answer until told to go, and then it ends with 0', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_SHUTDOWN_DELAY: '3s', GATECAR_CACHE_TTL: '0' });
    const clients = Array.from({ length: 8 }, () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      t.teardown(() => agent.destroy());
      return clientUntilTold(gatecar, token, agent);
    });
    await until('they are at it', async () => (await allowed(gatecar)) > 100);
    gatecar.signal('SIGTERM');
    await until('it is unready', async () => (await gatecar.readyz()).status === 503);
    t.match((await gatecar.readyz()).body, '[-]shutdown failed: draining');
    t.equal((await ask(gatecar.auth, { token })).status, 200, 'it serves newcomers while it is unready');
    for (const { replies, error } of await Promise.all(clients)) {
      t.equal(error, undefined);
      t.ok(replies.every(({ status }) => status === 200));
      t.equal(replies.at(-1)?.headers.connection, 'close', 'the last answer asks to leave');
    }
    t.equal(await gatecar.end(), 'exit code 0');
    const messages = (await gatecar.logs()).map(({ msg }) => msg);
    t.ok(messages.includes('draining'));
    t.equal(messages.at(-1), 'stopped');
    await t.rejects(ask(gatecar.auth, { token }), { code: 'ECONNREFUSED' });
  });

  t.test('reviews under way are awaited', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_REVIEW_TIMEOUT: '30s' });
    t.teardown(() => api.resume());
    await api.pause();
    const answers = Promise.all(Array.from({ length: 20 }, () => ask(gatecar.auth, { token })));
    await until(
      'they wait',
      async () => (await metric(gatecar, 'gatecar_cache_lookups_total{result="coalesced"}')) === 19,
    );
    gatecar.signal('SIGTERM');
    await until('it accepts no more', () =>
      ask(gatecar.auth).then(
        () => false,
        () => true,
      ),
    );
    api.resume();
    t.strictSame(new Set((await answers).map(({ status }) => status)), new Set([200]));
    t.equal(await gatecar.end(), 'exit code 0');
  });

  t.test('but not for ever: past the shutdown timeout it ends all the same', async t => {
    const gatecar = await startGatecar(t, {
      ...settings,
      GATECAR_REVIEW_TIMEOUT: '1m',
      GATECAR_SHUTDOWN_TIMEOUT: '500ms',
    });
    t.teardown(() => api.resume());
    await api.pause();
    const answer = ask(gatecar.auth, { token });
    answer.catch(() => {});
    await until('it waits', async () => (await metric(gatecar, 'gatecar_cache_lookups_total{result="miss"}')) === 1);
    gatecar.signal('SIGTERM');
    t.equal(await gatecar.end(), 'exit code 0');
    api.resume();
    await t.rejects(answer);
    t.match(
      (await gatecar.logs()).find(({ level }) => level === 'warn'),
      { msg: /requests in flight/ },
    );
  });

  t.test('a second signal ends it at once', async t => {
    const slow = { ...settings, GATECAR_SHUTDOWN_DELAY: '30s' };
    for (const [signal, code] of [
      ['SIGTERM', 143],
      ['SIGINT', 130],
    ] as const) {
      const gatecar = await startGatecar(t, slow);
      gatecar.signal(signal);
      await until('it drains', async () => (await gatecar.readyz()).status === 503);
      gatecar.signal(signal);
      t.equal(await gatecar.end(), `exit code ${code}`);
    }
  });

  t.test('behind nginx with another gatecar beside it, no client notices', async t => {
    const leaving = await startGatecar(t, { ...settings, GATECAR_SHUTDOWN_DELAY: '500ms' });
    const staying = await startGatecar(t, settings);
    const application = await startApplication(t);
    const nginx = await startNginx(t, await exampleConfig([leaving.auth, staying.auth], application.url));
    const seen = await underLoad(t, nginx.url, token, async () => {
      await until('both are asked', async () => (await allowed(leaving)) > 50 && (await allowed(staying)) > 50);
      leaving.signal('SIGTERM');
      t.equal(await leaving.end(), 'exit code 0');
      const before = await allowed(staying);
      await until('the other one goes on', async () => (await allowed(staying)) > before + 100);
    });
    t.strictSame(seen, new Array(8).fill([200]));
  });

  t.test('behind nginx and alone: every request is answered, with 200 for as long as it is there', async t => {
    const gatecar = await startGatecar(t, { ...settings, GATECAR_SHUTDOWN_DELAY: '500ms' });
    const application = await startApplication(t);
    const nginx = await startNginx(t, await exampleConfig([gatecar.auth], application.url));
    const seen = await underLoad(t, nginx.url, token, async () => {
      await until('it is asked', async () => (await allowed(gatecar)) > 50);
      gatecar.signal('SIGTERM');
      t.equal(await gatecar.end(), 'exit code 0');
      await until('it is missed', async () => (await ask(nginx.url, { token })).status === 503);
    });
    t.strictSame(seen, new Array(8).fill([200, 503]));
  });
});

/** Asks on one connection, again and again, until it is asked to leave. */
async function clientUntilTold(gatecar: GatecarProcess, token: string, agent: Agent) {
  const replies: Reply[] = [];
  try {
    do replies.push(await ask(gatecar.auth, { token, agent }));
    while (replies.at(-1)?.headers.connection !== 'close');
    return { replies, error: undefined };
  } catch (error) {
    return { replies, error };
  }
}

function allowed(gatecar: GatecarProcess): Promise<number> {
  return metric(gatecar, 'gatecar_requests_total{protocol="http",decision="allow",reason=""}');
}

async function metric(gatecar: GatecarProcess, series: string): Promise<number> {
  const { body } = await ask(gatecar.ops, { path: '/metrics' });
  const line = body.split('\n').find(one => one.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1) ?? 0);
}
