import { Agent } from 'node:http';
import t from 'tap';
import { ask, askRaw } from '../fixtures/ask.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';

// The kept-alive connections between nginx and gatecar: that they are used, and that nobody's answer goes astray on them.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('connections behind nginx', { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  const users = ['web', 'worker', 'batch'];
  const tokens = new Map<string, string>();
  for (const name of users) {
    await api.createServiceAccount('apps', name);
    tokens.set(`system:serviceaccount:apps:${name}`, await api.requestToken('apps', name, { audiences }));
  }
  const good = [...tokens.values()][0] ?? '';
  const gatecar = await startGatecar(t, settings);
  const counter = await startTcpCounter(t, gatecar.auth);
  const application = await startApplication(t);
  const config = await exampleConfig([counter.url], application.url);

  t.test('requests that pass share one connection to gatecar, bodies or not', async t => {
    const nginx = await startNginx(t, config);
    t.equal((await ask(nginx.url, { token: good })).status, 200);
    const before = counter.connections;
    for (let round = 0; round < 50; round += 1) {
      const question = [
        {},
        { method: 'POST', headers: { 'transfer-encoding': 'chunked' }, body: 'in chunks' },
        { method: 'POST', headers: { 'content-length': '2' }, body: 'ab' },
      ];
      t.equal((await ask(nginx.url, { ...question[round % 3], token: good })).status, 200);
    }
    t.equal(counter.connections - before, 0);
  });

  t.test('200 requests over one connection of a client, good and bad, each get their own result', async t => {
    const nginx = await startNginx(t, config);
    const cases = [...tokens, ['', 'garbage'], ['', undefined], ['', `${good}x`]] as const;
    const pipelined = Array.from({ length: 200 }, () => cases[Math.floor(Math.random() * cases.length)] ?? cases[0]);
    const requests = pipelined.map(([, token], at) => {
      const close = at === pipelined.length - 1 ? 'Connection: close\r\n' : '';
      const credential = token === undefined ? '' : `Authorization: Bearer ${token}\r\n`;
      return `GET /${at} HTTP/1.1\r\nHost: app\r\n${credential}${close}\r\n`;
    });
    const answers = (await askRaw(nginx.url, requests.join(''))).split(/(?=HTTP\/1\.1 )/);
    t.strictSame(
      answers.map(answer => (answer.startsWith('HTTP/1.1 401 ') ? '' : answer.split('\r\n\r\n')[1])),
      pipelined.map(([user]) => user),
    );
    t.ok(new Set(pipelined).size === cases.length, 'every kind was among them');
  });

  t.test('and so they do at once over many connections', async t => {
    const nginx = await startNginx(t, config);
    const agent = new Agent({ keepAlive: true, maxSockets: 16 });
    t.teardown(() => agent.destroy());
    const cases = [...tokens, ['', 'garbage'], ['', undefined]] as const;
    const wrong: unknown[] = [];
    const one = async (at: number) => {
      const [user, token] = cases[at % cases.length] ?? ['', undefined];
      const { status, body } = await ask(nginx.url, { agent, ...(token !== undefined && { token }) });
      if (status !== (user === '' ? 401 : 200) || (user !== '' && body !== user)) wrong.push({ user, status, body });
    };
    await Promise.all(Array.from({ length: 400 }, (_, at) => one(at)));
    t.strictSame(wrong, []);
  });

  t.test('an nginx that announces bodies and does not send them: nobody gets what was meant for another', async t => {
    // Only what makes it go wrong is taken out of the example; gatecar has to hold out alone.
    const bad = await startNginx(t, replaceOnce(config, 'proxy_set_header Content-Length "";', ''));
    const before = application.requests.length;
    const decisions = await decisionsOf(gatecar);
    for (let round = 0; round < 30; round += 1) {
      // The body's length decides how many bytes of the next question would be swallowed.
      const body = 'x'.repeat(40 + 37 * round);
      const first = { method: 'POST', headers: { 'content-length': String(body.length) }, body };
      const token = round % 2 === 0 ? good : 'garbage';
      t.equal((await ask(bad.url, { ...first, token })).status, round % 2 === 0 ? 200 : 401);
      // Every start of a line in it is a question of its own to a gatecar that has lost its place.
      const smuggled = Array.from({ length: 40 }, (_, at) => `X-${at}: GET /auth/smuggled HTTP/1.1`);
      const next = ['GET /next HTTP/1.1', 'Host: app', 'Connection: close', ...smuggled, '', ''].join('\r\n');
      const answer = await Promise.race([askRaw(bad.url, next), hangs()]);
      t.match(answer, /^HTTP\/1\.1 401 /, `round ${round}: without a token`);
      const other = await Promise.race([ask(bad.url, { token: [...tokens.values()][1] ?? '' }), hangs()]);
      t.match(other, { status: 200, body: 'system:serviceaccount:apps:worker' }, `round ${round}: another user`);
    }
    const reached = application.requests
      .slice(before)
      .map(({ url, headers }) => `${url} ${headers['x-auth-request-user']}`);
    const expected = ['/auth system:serviceaccount:apps:web', '/auth system:serviceaccount:apps:worker'];
    t.strictSame(new Set(reached), new Set(expected));
    t.equal((await decisionsOf(gatecar)) - decisions, 90, 'one decision for each request, and none more');
    t.match(counter.sent, /^Content-Length: 40\r\n/m, 'it did announce them');
  });
});

/** Long before gatecar or nginx would give up by themselves. */
function hangs(): Promise<string> {
  return new Promise(resolve => setTimeout(resolve, 3_000, 'no answer').unref());
}

async function decisionsOf(gatecar: GatecarProcess): Promise<number> {
  const { body } = await ask(gatecar.ops, { path: '/metrics' });
  return [...body.matchAll(/^gatecar_requests_total\{.*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
}
