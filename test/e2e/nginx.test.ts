import t from 'tap';
import { IDENTITY_HEADERS } from '../../src/identity/identity-headers.ts';
import { ask, askRaw } from '../fixtures/ask.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';
import { identity, identityIn, serviceAccountIdentity } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// `examples/nginx/nginx.conf` as it stands, but for its addresses, between a client and an application.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('behind nginx', { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  const { uid } = await api.createServiceAccount('apps', 'web');
  const token = await api.requestToken('apps', 'web', { audiences });
  const address = `127.0.0.1:${await freePort()}`;
  const gatecarSettings = {
    ...settings,
    GATECAR_LISTEN: address,
    GATECAR_REVIEW_TIMEOUT: '2s',
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
    GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
  };
  const gatecar = await startGatecar(t, gatecarSettings);
  const application = await startApplication(t);
  const nginx = await startNginx(t, await exampleConfig([`http://${address}`], application.url));
  const web = serviceAccountIdentity('apps', 'web', uid, token);
  const present = (values: Record<string, string>) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ''));
  /** What the application saw of the last request. */
  const seen = () => application.requests.at(-1);

  t.test('the application hears who it is, and the token travels on', async t => {
    const reply = await ask(nginx.url, { path: '/zones?a=b', token });
    t.match(reply, { status: 200, body: 'system:serviceaccount:apps:web', headers: { 'x-application': 'yes' } });
    t.match(seen(), { method: 'GET', url: '/zones?a=b', headers: { authorization: `Bearer ${token}` } });
    t.strictSame(identityIn(seen()?.rawHeaders ?? []), present(web));
    t.equal(await nginx.errors(), '', 'nginx has nothing to complain about');
  });

  t.test('all that there is to say gets through, also with the longest names Kubernetes allows', async t => {
    const long = (length: number) => `${'abcdefgh.'.repeat(40).slice(0, length - 1)}z`;
    const [namespace, name] = [long(63).replaceAll('.', '-'), long(253)];
    const account = await api.createServiceAccount(namespace, name);
    const node = await api.createNode(long(253));
    const pod = await api.createPod(namespace, long(253), { serviceAccount: name, nodeName: long(253) });
    const bound = await api.requestToken(namespace, name, { audiences, boundPod: { name: long(253), ...pod } });
    t.equal((await ask(nginx.url, { token: bound })).status, 200);
    t.strictSame(
      identityIn(seen()?.rawHeaders ?? []),
      present({
        ...serviceAccountIdentity(namespace, name, account.uid, bound),
        ...{ pod: long(253), 'pod-uid': pod.uid, node: long(253), 'node-uid': node.uid },
      }),
    );
  });

  t.test('the example names each identity header there is', async t => {
    const config = await exampleConfig([`http://${address}`], application.url);
    for (const header of IDENTITY_HEADERS) {
      const variable = header.toLowerCase().replaceAll('-', '_');
      t.match(config, new RegExp(`auth_request_set \\$auth_${variable} +\\$upstream_http_x_auth_request_${variable};`));
      t.match(config, new RegExp(`proxy_set_header X-Auth-Request-${header} +\\$auth_${variable};`));
    }
  });

  t.test("a client's own identity headers never arrive, however they are written", async t => {
    const names = Object.keys(identity({}));
    const forgeries = names.flatMap(name => [
      `X-Auth-Request-${name}: forged`,
      `x-auth-REQUEST-${name}: forged`,
      `X_Auth_Request_${name.replaceAll('-', '_')}: forged`,
    ]);
    const answer = await askRaw(nginx.url, request('GET /', [...forgeries, `Connection: close, X-Auth-Request-User`]));
    t.match(answer, /^HTTP\/1\.1 200 /);
    t.strictSame(identityIn(seen()?.rawHeaders ?? []), present(web));
    t.notMatch(seen()?.rawHeaders.join(), /forged/);
  });

  t.test('a denial reaches the client with its challenge, and the application hears nothing of it', async t => {
    const before = application.requests.length;
    const garbage = await ask(nginx.url, { path: '/zones', token: 'garbage' });
    t.equal(garbage.status, 401);
    t.equal(garbage.headers['www-authenticate'], 'Bearer realm="gatecar", error="invalid_token"');
    const none = await ask(nginx.url);
    t.equal(none.status, 401);
    t.equal(none.headers['www-authenticate'], 'Bearer realm="gatecar"');
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'HEAD', 'PROPFIND']) {
      t.equal((await ask(nginx.url, { method })).status, 401, method);
    }
    t.equal((await ask(nginx.url, { path: '/_gatecar', token })).status, 404, 'nobody asks gatecar from outside');
    t.equal(application.requests.length, before);
  });

  t.test('gatecar’s log and the application hear of one request the same, and not what the client made up', async t => {
    const made = [
      ...['X-Real-IP: 203.0.113.9', 'X-Forwarded-For: 203.0.113.9', 'X-Request-ID: made-up', 'X-Original-URI: /other'],
      ...['X-Original-Method: TRACE', 'X-Forwarded-Host: evil', 'X-Forwarded-Proto: https', 'Connection: close'],
    ];
    await askRaw(nginx.url, request('DELETE /deleted?secret=1', made));
    const { requestId, clientAddress, method, uri } = await gatecar.logged(
      'the request',
      ({ msg, method }) => msg === 'allowed' && method === 'DELETE',
    );
    t.match(requestId, /^[0-9a-f]{32}$/);
    t.strictSame([clientAddress, method, uri], ['127.0.0.1', 'DELETE', '/deleted']);
    const { headers = {} } = seen() ?? {};
    t.strictSame(
      ['x-request-id', 'x-real-ip', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto'].map(
        name => headers[name],
      ),
      [requestId, '127.0.0.1', '127.0.0.1', 'app', 'http'],
    );
  });

  t.test('bodies, methods and long addresses get through, and what gatecar is told is what was asked', async t => {
    const body = 'x'.repeat(10_240);
    const headers = { 'content-length': String(body.length) };
    t.equal((await ask(nginx.url, { method: 'POST', path: '/', headers, body, token })).status, 200);
    t.match(seen(), { method: 'POST', body });
    const chunked = { 'transfer-encoding': 'chunked' };
    t.equal((await ask(nginx.url, { method: 'PUT', path: '/', headers: chunked, body, token })).status, 200);
    t.match(seen(), { method: 'PUT', body });
    const expecting = { ...headers, Expect: '100-continue' };
    t.equal((await ask(nginx.url, { method: 'POST', path: '/', headers: expecting, body, token })).status, 200);
    t.match(seen(), { method: 'POST', body });
    const { status, body: none } = await ask(nginx.url, { method: 'HEAD', token });
    t.strictSame([status, none, seen()?.method], [200, '', 'HEAD']);
    const path = `/${'a/'.repeat(4_000)}?q=1`;
    t.equal((await ask(nginx.url, { path, token })).status, 200);
    t.match(seen(), { url: path, headers: identityHeaders(web) });
    for (const odd of ['//x/../y', '/a/%2e%2e/x', '/a%2fb', '/x?%zz']) {
      t.equal((await ask(nginx.url, { path: odd, token })).status, 200, odd);
      t.equal(seen()?.url, odd);
      t.equal((await ask(nginx.url, { path: odd })).status, 401, odd);
    }
  });

  t.test('what the application itself answers passes as it is, its 500 too', async t => {
    for (const status of [500, 503, 401, 404]) {
      application.status = status;
      t.match(await ask(nginx.url, { token }), { status, body: 'system:serviceaccount:apps:web' });
    }
    application.status = 200;
  });

  t.test('two Authorization headers do not pass', async t => {
    const twice = request('GET /', ['Authorization: Bearer garbage', 'Connection: close']);
    t.match(await askRaw(nginx.url, twice), /^HTTP\/1\.1 40[01] /);
  });

  t.test('where API server unreachable, the client gets a 503 with Retry-After', async t => {
    const before = application.requests.length;
    const unknown = await api.requestToken('apps', 'web', { audiences });
    t.teardown(() => api.resume());
    await api.pause();
    const stranger = await ask(nginx.url, { token: unknown });
    t.match(stranger, { status: 503, headers: { 'retry-after': '1', 'cache-control': 'no-store' } });
    t.strictSame(JSON.parse(stranger.body), { error: 'authorization is unavailable' });
    t.equal(application.requests.length, before);
    t.equal((await ask(nginx.url, { token })).status, 200, 'a known token passes');
    api.resume();
    await until('it can be asked again', async () => (await ask(nginx.url, { token: 'garbage-2' })).status === 401);
  });

  t.test('gatecar killed: nothing passes, with 503; started again: all is well', async t => {
    const before = application.requests.length;
    gatecar.signal('SIGKILL');
    t.equal(await gatecar.end(), 'SIGKILL');
    for (const question of [{ token }, { token: 'garbage' }, {}, { token, method: 'POST', body: 'x' }]) {
      t.match(await ask(nginx.url, question), { status: 503, headers: { 'retry-after': '1' } });
    }
    t.equal(application.requests.length, before, 'the application hears nothing');
    await startGatecar(t, gatecarSettings);
    t.match(await ask(nginx.url, { token }), { status: 200, body: 'system:serviceaccount:apps:web' });
    t.equal((await ask(nginx.url, { token: 'garbage' })).status, 401);
  });

  function request(methodAndPath: string, lines: readonly string[]): string {
    return [`${methodAndPath} HTTP/1.1`, 'Host: app', `Authorization: Bearer ${token}`, ...lines, '', ''].join('\r\n');
  }
});

function identityHeaders(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`x-auth-request-${name}`, value]));
}
