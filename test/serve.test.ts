import { statSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { readConfig } from '../src/config/load.ts';
import { CONNECTION_BYTES } from '../src/limits/constants.ts';
import { processLimits, processMemory } from '../src/limits/process-limits.ts';
import { logger } from '../src/observability/logging/logger.ts';
import { serve } from '../src/serve.ts';
import { converse } from './fixtures/conversation.ts';
import { envoyClient } from './fixtures/envoy-client.ts';
import { listenerFiles, listenerSecret } from './fixtures/listener-files.ts';
import { sendRequest } from './fixtures/send-request.ts';
import { accepts, startStandIn } from './fixtures/stand-in-api-server.ts';
import { tempDir } from './fixtures/temp-dir.ts';
import { pem } from './fixtures/tls-server.ts';
import { until } from './fixtures/until.ts';

const LOCAL = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0', GATECAR_SHUTDOWN_DELAY: '0s' };
const NOWHERE = { inCluster: undefined, homeDirectory: undefined };

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
    standIn,
    running,
    lines: () =>
      text
        .trim()
        .split('\n')
        .map(line => JSON.parse(line)),
  };
}

t.test('serve logs its warnings, its listening addresses and the policy in force', async t => {
  const { running, lines, standIn } = await start(t, { GATECAR_TOKEN_AUDIENCES: '' });
  t.match(lines(), [
    { level: 'warn', msg: /GATECAR_TOKEN_AUDIENCES is empty/ },
    { level: 'info', msg: 'listening', auth: running.auth, ops: running.ops, mode: 'tokenreview' },
  ]);
  t.match(lines().at(-1), { apiServer: standIn.url, tokenAudiences: [], allowedNamespaces: 'all', cacheTtlMs: 10_000 });
  t.equal(running.grpc, undefined);
});

t.test('the start line reports how many plain connections fit the memory limit, and the budgets', async t => {
  const { lines } = await start(t, { GATECAR_MEMORY_LIMIT: '256Mi' });
  const { limitBytes, heapBytes } = processMemory(256 * 1024 * 1024);
  const limits = processLimits({ limitBytes, heapBytes }, 10_000);
  t.match(lines().at(-1), {
    msg: 'listening',
    maxPlainConnections: Math.floor(limits.connectionsBytes / CONNECTION_BYTES.http),
    ...limits,
  });
});

t.test('every configured listener answers, and is closed after stop', async t => {
  const { running, lines } = await start(t, { GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  const auth = `http://${running.auth}`;
  t.equal((await sendRequest(auth, { token: 'abc' })).status, 200);
  t.equal((await sendRequest(`http://${running.ops}`, { path: '/livez' })).status, 200);
  const envoy = envoyClient(String(running.grpc));
  t.teardown(() => envoy.close());
  t.equal((await envoy.checkHeaders({ authorization: 'Bearer abc' })).status.code, 0);
  await running.stop();
  await t.rejects(sendRequest(auth), { code: 'ECONNREFUSED' });
  await t.rejects(sendRequest(`http://${running.ops}`), { code: 'ECONNREFUSED' });
  t.match(lines().slice(-2), [{ msg: 'draining' }, { msg: 'stopped' }]);
});

t.test('serve becomes ready without a request', async t => {
  const { running } = await start(t, {});
  await until(async () => (await sendRequest(`http://${running.ops}`, { path: '/readyz' })).status === 200);
});

t.test('during the shutdown delay gatecar is unready and still serves requests', async t => {
  const { running } = await start(t, { GATECAR_SHUTDOWN_DELAY: '200ms' });
  await until(async () => (await sendRequest(`http://${running.ops}`, { path: '/readyz' })).status === 200);
  const stopped = running.stop();
  t.equal((await sendRequest(`http://${running.ops}`, { path: '/readyz' })).status, 503);
  t.match(await sendRequest(`http://${running.auth}`, { token: 'abc' }), {
    status: 200,
    headers: { connection: 'close' },
  });
  await stopped;
});

t.test('requests in flight at shutdown are finished, over HTTP and gRPC', async t => {
  const { running, standIn } = await start(t, { GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  const envoy = envoyClient(String(running.grpc));
  t.teardown(() => envoy.close());
  const respond = new Map<string | undefined, () => void>();
  standIn.behaviour = (request, response) => {
    respond.set(request.token, () => accepts()(request, response));
  };
  const overHttp = sendRequest(`http://${running.auth}`, { token: 'abc' });
  const overGrpc = envoy.checkHeaders({ authorization: 'Bearer def' });
  await until(() => standIn.requests.length === 2);
  const stopped = running.stop();
  await t.rejects(sendRequest(`http://${running.auth}`), { code: 'ECONNREFUSED' });
  respond.get('abc')?.();
  t.equal((await overHttp).status, 200);
  // The HTTP listener is done; the gRPC listener still has a call in flight.
  for (let turn = 0; turn < 20; turn += 1) await nextTurn();
  respond.get('def')?.();
  t.equal((await overGrpc).status.code, 0);
  await stopped;
});

t.test('replaced TLS files are used by both listeners without a restart, and the ops listener stays plain', async t => {
  const files = await listenerFiles(t);
  const { running, lines } = await start(t, { ...files.settings, GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  t.match(lines().at(-1), { msg: 'listening', tls: 'mutual' });
  t.equal((await sendRequest(`http://${running.ops}`, { path: '/livez' })).status, 200);
  const subjectAltName = (address: string): Promise<string | undefined> =>
    new Promise((resolve, reject) => {
      const port = Number(address.split(':')[1]);
      const client = { cert: pem('client.crt'), key: pem('client.key'), ca: pem('ca.crt') };
      const socket = connectTls({ port, host: '127.0.0.1', checkServerIdentity: () => undefined, ...client }, () => {
        resolve(socket.getPeerX509Certificate()?.subjectAltName);
        socket.destroy();
      }).once('error', reject);
    });
  const both = () => Promise.all([subjectAltName(running.auth), subjectAltName(String(running.grpc))]);
  t.match(await both(), [/127\.0\.0\.1/, /127\.0\.0\.1/]);
  await files.swap(listenerSecret('server-by-name'));
  await until(async () => (await both()).every(name => name === 'DNS:kubernetes.default.svc'));
  t.match(lines().at(-1), { level: 'info', msg: 'TLS certificate reloaded' });
  const metrics = (await sendRequest(`http://${running.ops}`, { path: '/metrics' })).body;
  t.match(metrics, 'gatecar_tls_reloads_total{outcome="success"} 1');
});

t.test('draining over TLS finishes a gRPC call in flight and then stops', async t => {
  const { settings } = await listenerFiles(t);
  const { GATECAR_TLS_CLIENT_CA_FILE: _, ...plain } = settings;
  const { running, standIn, lines } = await start(t, { ...plain, GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  t.match(lines().at(-1), { msg: 'listening', tls: 'on' });
  const port = String(running.grpc).split(':')[1];
  const envoy = envoyClient(`localhost:${port}`, credentials.createSsl(Buffer.from(pem('ca.crt'))));
  t.teardown(() => envoy.close());
  let respond = () => {};
  standIn.behaviour = (request, response) => {
    if (request.token !== 'def') return accepts()(request, response);
    respond = () => accepts()(request, response);
  };
  const inFlight = envoy.checkHeaders({ authorization: 'Bearer def' });
  await until(() => standIn.requests.some(({ token }) => token === 'def'));
  const stopped = running.stop();
  await t.rejects(sendRequest(`http://${running.grpc}`), { code: 'ECONNREFUSED' });
  respond();
  t.equal((await inFlight).status.code, 0);
  await stopped;
});

t.test('requests that exceed the shutdown timeout are aborted, and every connection is closed', async t => {
  const settings = {
    GATECAR_SHUTDOWN_TIMEOUT: '50ms',
    GATECAR_REVIEW_TIMEOUT: '1m',
    GATECAR_GRPC_LISTEN: '127.0.0.1:0',
  };
  const { running, standIn } = await start(t, settings);
  const envoy = envoyClient(String(running.grpc));
  t.teardown(() => envoy.close());
  let closed = 0;
  standIn.behaviour = (_request, response) =>
    response.once('close', () => {
      closed += 1;
    });
  const overHttp = sendRequest(`http://${running.auth}`, { token: 'abc' });
  const overGrpc = envoy.checkHeaders({ authorization: 'Bearer def' });
  const failures = Promise.allSettled([overHttp, overGrpc]);
  await until(() => standIn.requests.length === 2);
  const partial = await converse(`http://${running.ops}`);
  partial.send('GET /li');
  await running.stop();
  t.strictSame(
    (await failures).map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  t.strictSame(await partial.closed, []);
  await until(() => closed >= 2);
});

t.test('an address in use is reported with its setting, and nothing is left listening', async t => {
  const { running } = await start(t, {});
  for (const name of ['GATECAR_LISTEN', 'GATECAR_GRPC_LISTEN']) {
    const config = readConfig([], { ...LOCAL, GATECAR_MODE: 'format-only', [name]: running.auth });
    const failure = serve(config, NOWHERE, logger('silent'));
    await t.rejects(failure, { name: 'ListenError', message: `${name}: cannot listen on ${running.auth}: EADDRINUSE` });
  }
});

t.test('format-only mode is ready immediately and warns about what it does not verify', async t => {
  const { running, lines } = await start(t, { GATECAR_MODE: 'format-only', GATECAR_ALLOWED_NAMESPACES: 'ci' });
  t.match(lines(), [{ msg: /tokens are NOT verified/ }, { msg: /allowlists are not applied/ }, { msg: 'listening' }]);
  t.equal((await sendRequest(`http://${running.ops}`, { path: '/readyz' })).status, 200);
  const reply = await sendRequest(`http://${running.auth}`, { token: 'anything' });
  t.match(reply, { status: 200, headers: { 'x-auth-request-user': '' } });
  t.match(await sendRequest(`http://${running.auth}`), {
    status: 401,
    headers: { 'x-gatecar-reason': 'credentials_missing' },
  });
});

t.test('failed TLS handshakes of both listeners are logged and counted', async t => {
  const files = await listenerFiles(t);
  const { running, lines } = await start(t, { ...files.settings, GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  for (const address of [running.auth, String(running.grpc)]) {
    for (let attempt = 0; attempt < 3; attempt += 1) await t.rejects(sendRequest(`http://${address}`));
  }
  const failures = (protocol: string) =>
    `gatecar_tls_handshake_failures_total{protocol="${protocol}",reason="plain_http"} 3`;
  await until(async () => {
    const { body } = await sendRequest(`http://${running.ops}`, { path: '/metrics' });
    return body.includes(failures('http')) && body.includes(failures('grpc'));
  });
  const logged = lines().filter(({ msg }) => msg === 'TLS handshake failed');
  t.match(logged, [
    { level: 'info', protocol: 'http', reason: 'plain_http', peer: '127.0.0.1' },
    { level: 'info', protocol: 'grpc', reason: 'plain_http', peer: '127.0.0.1' },
  ]);
  t.equal(logged.length, 2);
});

t.test('every listener on a Unix socket has the file mode of GATECAR_SOCKET_MODE', async t => {
  const directory = tempDir(t);
  const { running } = await start(t, {
    GATECAR_SOCKET_MODE: '0600',
    GATECAR_LISTEN: `unix:${directory}/auth`,
    GATECAR_OPS_LISTEN: `unix:${directory}/ops`,
    GATECAR_GRPC_LISTEN: `unix:${directory}/grpc`,
  });
  t.equal(running.auth, `unix:${directory}/auth`);
  for (const name of ['auth', 'ops', 'grpc']) t.equal(statSync(join(directory, name)).mode & 0o777, 0o600, name);
});
