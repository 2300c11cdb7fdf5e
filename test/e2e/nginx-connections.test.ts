import { Agent } from 'node:http';
import t from 'tap';
import { decisions } from '../fixtures/audit-lines.ts';
import { sendRaw, sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';

// Tests the kept-alive connections between nginx and gatecar: they are used, and no response
// reaches another request.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test(
  'nginx shares connections to gatecar without mixing responses',
  { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    const users = ['web', 'worker', 'batch'];
    const tokens = new Map<string, string>();
    for (const name of users) {
      await api.createServiceAccount('apps', name);
      tokens.set(`system:serviceaccount:apps:${name}`, await api.requestToken('apps', name, { audiences }));
    }
    const validToken = [...tokens.values()][0] ?? '';
    const gatecar = await startGatecar(t, settings);
    const counter = await startTcpCounter(t, gatecar.auth);
    const application = await startApplication(t);
    const config = await exampleConfig([counter.url], application.url);

    t.test('allowed requests share one connection to gatecar, with or without bodies', async t => {
      const nginx = await startNginx(t, config);
      t.equal((await sendRequest(nginx.url, { token: validToken })).status, 200);
      const before = counter.connections;
      for (let round = 0; round < 50; round += 1) {
        const requests = [
          {},
          { method: 'POST', headers: { 'transfer-encoding': 'chunked' }, body: 'in chunks' },
          { method: 'POST', headers: { 'content-length': '2' }, body: 'ab' },
        ];
        t.equal((await sendRequest(nginx.url, { ...requests[round % 3], token: validToken })).status, 200);
      }
      t.equal(counter.connections - before, 0);
    });

    t.test('200 pipelined requests of one client, valid and invalid, each get their own result', async t => {
      const nginx = await startNginx(t, config);
      const cases = [...tokens, ['', 'garbage'], ['', undefined], ['', `${validToken}x`]] as const;
      const pipelined = Array.from({ length: 200 }, () => cases[Math.floor(Math.random() * cases.length)] ?? cases[0]);
      const requests = pipelined.map(([, token], index) => {
        const close = index === pipelined.length - 1 ? 'Connection: close\r\n' : '';
        const credential = token === undefined ? '' : `Authorization: Bearer ${token}\r\n`;
        return `GET /${index} HTTP/1.1\r\nHost: app\r\n${credential}${close}\r\n`;
      });
      const answers = (await sendRaw(nginx.url, requests.join(''))).split(/(?=HTTP\/1\.1 )/);
      t.strictSame(
        answers.map(answer => (answer.startsWith('HTTP/1.1 401 ') ? '' : answer.split('\r\n\r\n')[1])),
        pipelined.map(([user]) => user),
      );
      t.ok(new Set(pipelined).size === cases.length, 'every kind was sent');
    });

    t.test('concurrent requests over many connections each get their own result', async t => {
      const nginx = await startNginx(t, config);
      const agent = new Agent({ keepAlive: true, maxSockets: 16 });
      t.teardown(() => agent.destroy());
      const cases = [...tokens, ['', 'garbage'], ['', undefined]] as const;
      const unexpected: unknown[] = [];
      const send = async (index: number) => {
        const [user, token] = cases[index % cases.length] ?? ['', undefined];
        const { status, body } = await sendRequest(nginx.url, { agent, ...(token !== undefined && { token }) });
        if (status !== (user === '' ? 401 : 200) || (user !== '' && body !== user))
          unexpected.push({ user, status, body });
      };
      await Promise.all(Array.from({ length: 400 }, (_, index) => send(index)));
      t.strictSame(unexpected, []);
    });

    t.test(
      'an nginx that announces bodies and does not send them: no client gets the response for another',
      async t => {
        // Removes the directive that prevents this from the example, so that gatecar alone must
        // cope.
        const misconfigured = await startNginx(t, replaceOnce(config, 'proxy_set_header Content-Length "";', ''));
        const before = application.requests.length;
        const decided = await decisions(gatecar.ops);
        for (let round = 0; round < 30; round += 1) {
          // The length of the body decides how much of the next request would be lost.
          const body = 'x'.repeat(40 + 37 * round);
          const first = { method: 'POST', headers: { 'content-length': String(body.length) }, body };
          const token = round % 2 === 0 ? validToken : 'garbage';
          t.equal((await sendRequest(misconfigured.url, { ...first, token })).status, round % 2 === 0 ? 200 : 401);
          // Every line starts like a request, for a gatecar that would lose its position.
          const smuggled = Array.from({ length: 40 }, (_, index) => `X-${index}: GET /auth/smuggled HTTP/1.1`);
          const next = ['GET /next HTTP/1.1', 'Host: app', 'Connection: close', ...smuggled, '', ''].join('\r\n');
          const answer = await Promise.race([sendRaw(misconfigured.url, next), timeLimit()]);
          t.match(answer, /^HTTP\/1\.1 401 /, `round ${round}: without a token`);
          const other = await Promise.race([
            sendRequest(misconfigured.url, { token: [...tokens.values()][1] ?? '' }),
            timeLimit(),
          ]);
          t.match(other, { status: 200, body: 'system:serviceaccount:apps:worker' }, `round ${round}: another user`);
        }
        const reached = application.requests
          .slice(before)
          .map(({ url, headers }) => `${url} ${headers['x-auth-request-user']}`);
        const expected = ['/auth system:serviceaccount:apps:web', '/auth system:serviceaccount:apps:worker'];
        t.strictSame(new Set(reached), new Set(expected));
        t.equal((await decisions(gatecar.ops)) - decided, 90, 'one decision for each request');
        t.match(counter.sent, /^Content-Length: 40\r\n/m, 'nginx did announce the bodies');
      },
    );
  },
);

/** Resolves long before gatecar or nginx would time out. */
function timeLimit(): Promise<string> {
  return new Promise(resolve => setTimeout(resolve, 3_000, 'no answer').unref());
}
