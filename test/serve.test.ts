import { Writable } from 'node:stream';
import t, { type Test } from 'tap';
import { readConfig } from '../src/config/config.ts';
import { logger } from '../src/operations/log.ts';
import { serve } from '../src/serve.ts';
import { ask } from './fixtures/ask.ts';
import { envoyClient } from './fixtures/envoy-client.ts';
import { accepts, startStandIn } from './fixtures/stand-in-api-server.ts';

const LOCAL = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0', GATECAR_SHUTDOWN_DELAY: '0s' };
const NOWHERE = { inCluster: false, homeDirectory: undefined };

async function start(t: Test, settings: Record<string, string>) {
  let text = '';
  const destination = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const config = readConfig([], { ...LOCAL, GATECAR_KUBE_API_URL: standIn.url, ...settings });
  const running = await serve(config, NOWHERE, logger('info', destination));
  t.teardown(() => running.stop());
  return {
    running,
    lines: () =>
      text
        .trim()
        .split('\n')
        .map(line => JSON.parse(line)),
  };
}

t.test('it says where it listens, and its warnings', async t => {
  const { running, lines } = await start(t, { GATECAR_TOKEN_AUDIENCES: '' });
  t.match(lines(), [
    { level: 'warn', msg: /GATECAR_TOKEN_AUDIENCES is empty/ },
    { level: 'info', msg: 'listening', auth: running.auth, ops: running.ops, mode: 'tokenreview' },
  ]);
  t.equal(running.grpc, undefined);
});

t.test('every listener it was asked for answers, and is gone once it has stopped', async t => {
  const { running, lines } = await start(t, { GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  const auth = `http://${running.auth}`;
  t.equal((await ask(auth, { token: 'abc' })).status, 200);
  t.equal((await ask(`http://${running.ops}`, { path: '/livez' })).status, 200);
  const envoy = envoyClient(String(running.grpc));
  t.teardown(() => envoy.close());
  t.equal((await envoy.checkHeaders({ authorization: 'Bearer abc' })).status.code, 0);
  await running.stop();
  await t.rejects(ask(auth), { code: 'ECONNREFUSED' });
  await t.rejects(ask(`http://${running.ops}`), { code: 'ECONNREFUSED' });
  t.match(lines().slice(-2), [{ msg: 'draining' }, { msg: 'stopped' }]);
});

t.test('an address that is taken is named, and nothing is left listening', async t => {
  const { running } = await start(t, {});
  for (const name of ['GATECAR_LISTEN', 'GATECAR_GRPC_LISTEN']) {
    const config = readConfig([], { ...LOCAL, GATECAR_MODE: 'basic', [name]: running.auth });
    const failure = serve(config, NOWHERE, logger('silent'));
    await t.rejects(failure, { name: 'ListenError', message: `${name}: cannot listen on ${running.auth}: EADDRINUSE` });
  }
});

t.test('basic mode asks nobody, is ready at once and says what it does not do', async t => {
  const { running, lines } = await start(t, { GATECAR_MODE: 'basic', GATECAR_ALLOWED_NAMESPACES: 'ci' });
  t.match(lines(), [{ msg: /tokens are NOT verified/ }, { msg: /allowlists are not applied/ }, { msg: 'listening' }]);
  t.equal((await ask(`http://${running.ops}`, { path: '/readyz' })).status, 200);
  const reply = await ask(`http://${running.auth}`, { token: 'anything' });
  t.match(reply, { status: 200, headers: { 'x-auth-request-user': '' } });
  t.match(await ask(`http://${running.auth}`), { status: 401, headers: { 'x-gatecar-reason': 'credentials_missing' } });
});
