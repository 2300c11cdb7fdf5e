import t from 'tap';
import { IDENTITY_HEADERS } from '../../src/identity/identity-headers.ts';
import { sendRaw, sendRequest } from '../fixtures/send-request.ts';
import { assertUploads, startApplication } from './fixtures/support/application.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';
import { identity, identityIn, serviceAccountIdentity } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// Tests `examples/nginx/nginx.conf` with other addresses, between a client and an application.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test('the nginx example', { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) }, async t => {
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
  const nonEmpty = (values: Record<string, string>) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ''));
  /** Returns the last request that the application received. */
  const lastRequest = () => application.requests.at(-1);

  t.test('nginx example: the application receives the identity and the token', async t => {
    const reply = await sendRequest(nginx.url, { path: '/zones?a=b', token });
    t.match(reply, { status: 200, body: 'system:serviceaccount:apps:web', headers: { 'x-application': 'yes' } });
    t.match(lastRequest(), { method: 'GET', url: '/zones?a=b', headers: { authorization: `Bearer ${token}` } });
    t.strictSame(identityIn(lastRequest()?.rawHeaders ?? []), nonEmpty(web));
    t.equal(await nginx.errors(), '', 'nginx logs no error');
  });

  t.test('nginx example: every identity header passes, with the longest names that Kubernetes allows', async t => {
    const long = (length: number) => `${'abcdefgh.'.repeat(40).slice(0, length - 1)}z`;
    const [namespace, name] = [long(63).replaceAll('.', '-'), long(253)];
    const account = await api.createServiceAccount(namespace, name);
    const node = await api.createNode(long(253));
    const pod = await api.createPod(namespace, long(253), { serviceAccount: name, nodeName: long(253) });
    const bound = await api.requestToken(namespace, name, { audiences, boundPod: { name: long(253), ...pod } });
    t.equal((await sendRequest(nginx.url, { token: bound })).status, 200);
    t.strictSame(
      identityIn(lastRequest()?.rawHeaders ?? []),
      nonEmpty({
        ...serviceAccountIdentity(namespace, name, account.uid, bound),
        pod: long(253),
        'pod-uid': pod.uid,
        node: long(253),
        'node-uid': node.uid,
      }),
    );
  });

  t.test('nginx example: an upload of 20 MB passes with a valid token only', async t => {
    await assertUploads(t, nginx.url, application, token);
  });

  t.test('nginx example: every identity header is copied', async t => {
    const config = await exampleConfig([`http://${address}`], application.url);
    for (const header of IDENTITY_HEADERS) {
      const variable = header.toLowerCase().replaceAll('-', '_');
      t.match(config, new RegExp(`auth_request_set \\$auth_${variable} +\\$upstream_http_x_auth_request_${variable};`));
      t.match(config, new RegExp(`proxy_set_header X-Auth-Request-${header} +\\$auth_${variable};`));
    }
  });

  t.test('nginx example: identity headers of the client never reach the application, in any spelling', async t => {
    const names = Object.keys(identity({}));
    const forged = names.flatMap(name => [
      `X-Auth-Request-${name}: forged`,
      `x-auth-REQUEST-${name}: forged`,
      `X_Auth_Request_${name.replaceAll('-', '_')}: forged`,
    ]);
    const answer = await sendRaw(nginx.url, request('GET /', [...forged, `Connection: close, X-Auth-Request-User`]));
    t.match(answer, /^HTTP\/1\.1 200 /);
    t.strictSame(identityIn(lastRequest()?.rawHeaders ?? []), nonEmpty(web));
    t.notMatch(lastRequest()?.rawHeaders.join(), /forged/);
  });

  t.test('nginx example: a denial reaches the client with its challenge, and not the application', async t => {
    const before = application.requests.length;
    const garbage = await sendRequest(nginx.url, { path: '/zones', token: 'garbage' });
    t.equal(garbage.status, 401);
    t.equal(garbage.headers['www-authenticate'], 'Bearer realm="gatecar", error="invalid_token"');
    const withoutToken = await sendRequest(nginx.url);
    t.equal(withoutToken.status, 401);
    t.equal(withoutToken.headers['www-authenticate'], 'Bearer realm="gatecar"');
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'HEAD', 'PROPFIND']) {
      t.equal((await sendRequest(nginx.url, { method })).status, 401, method);
    }
    t.equal(
      (await sendRequest(nginx.url, { path: '/_gatecar', token })).status,
      404,
      'clients cannot call gatecar through nginx',
    );
    t.equal(application.requests.length, before);
  });

  t.test(
    'nginx example: gatecar’s log and the application get the same request id, and nothing that the client claims',
    async t => {
      const forged = [
        'X-Real-IP: 203.0.113.9',
        'X-Forwarded-For: 203.0.113.9',
        'X-Request-ID: made-up',
        'X-Original-URI: /other',
        'X-Original-Method: TRACE',
        'X-Forwarded-Host: evil',
        'X-Forwarded-Proto: https',
        'Connection: close',
      ];
      await sendRaw(nginx.url, request('DELETE /deleted?secret=1', forged));
      const { requestId, clientAddress, method, uri } = await gatecar.logged(
        'the request',
        ({ msg, method }) => msg === 'allowed' && method === 'DELETE',
      );
      t.match(requestId, /^[0-9a-f]{32}$/);
      t.strictSame([clientAddress, method, uri], ['127.0.0.1', 'DELETE', '/deleted']);
      const { headers = {} } = lastRequest() ?? {};
      t.strictSame(
        ['x-request-id', 'x-real-ip', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto'].map(
          name => headers[name],
        ),
        [requestId, '127.0.0.1', '127.0.0.1', 'app', 'http'],
      );
    },
  );

  t.test('nginx example: bodies, methods and long paths pass, and gatecar gets the original request', async t => {
    const body = 'x'.repeat(10_240);
    const headers = { 'content-length': String(body.length) };
    t.equal((await sendRequest(nginx.url, { method: 'POST', path: '/', headers, body, token })).status, 200);
    t.match(lastRequest(), { method: 'POST', body });
    const chunked = { 'transfer-encoding': 'chunked' };
    t.equal((await sendRequest(nginx.url, { method: 'PUT', path: '/', headers: chunked, body, token })).status, 200);
    t.match(lastRequest(), { method: 'PUT', body });
    const expecting = { ...headers, Expect: '100-continue' };
    t.equal((await sendRequest(nginx.url, { method: 'POST', path: '/', headers: expecting, body, token })).status, 200);
    t.match(lastRequest(), { method: 'POST', body });
    const { status, body: headBody } = await sendRequest(nginx.url, { method: 'HEAD', token });
    t.strictSame([status, headBody, lastRequest()?.method], [200, '', 'HEAD']);
    const path = `/${'a/'.repeat(4_000)}?q=1`;
    t.equal((await sendRequest(nginx.url, { path, token })).status, 200);
    t.match(lastRequest(), { url: path, headers: identityHeaders(web) });
    for (const unusual of ['//x/../y', '/a/%2e%2e/x', '/a%2fb', '/x?%zz']) {
      t.equal((await sendRequest(nginx.url, { path: unusual, token })).status, 200, unusual);
      t.equal(lastRequest()?.url, unusual);
      t.equal((await sendRequest(nginx.url, { path: unusual })).status, 401, unusual);
    }
  });

  t.test('nginx example: responses of the application pass unchanged, including its 500', async t => {
    for (const status of [500, 503, 401, 404]) {
      application.status = status;
      t.match(await sendRequest(nginx.url, { token }), { status, body: 'system:serviceaccount:apps:web' });
    }
    application.status = 200;
  });

  t.test('nginx example: two Authorization headers do not pass', async t => {
    const twice = request('GET /', ['Authorization: Bearer garbage', 'Connection: close']);
    t.match(await sendRaw(nginx.url, twice), /^HTTP\/1\.1 40[01] /);
  });

  t.test('nginx example: if the API server is unreachable, the client gets a 503 with Retry-After', async t => {
    const before = application.requests.length;
    const uncachedToken = await api.requestToken('apps', 'web', { audiences });
    t.teardown(() => api.resume());
    await api.pause();
    const reply = await sendRequest(nginx.url, { token: uncachedToken });
    t.match(reply, { status: 503, headers: { 'retry-after': '1', 'cache-control': 'no-store' } });
    t.strictSame(JSON.parse(reply.body), { error: 'authorization is unavailable' });
    t.equal(application.requests.length, before);
    t.equal((await sendRequest(nginx.url, { token })).status, 200, 'a cached token passes');
    api.resume();
    await until(
      'the API server is reachable again',
      async () => (await sendRequest(nginx.url, { token: 'garbage-2' })).status === 401,
    );
  });

  t.test(
    'nginx example: while gatecar is killed every request gets 503, and after a restart requests pass',
    async t => {
      const before = application.requests.length;
      gatecar.signal('SIGKILL');
      t.equal(await gatecar.end(), 'SIGKILL');
      for (const request of [{ token }, { token: 'garbage' }, {}, { token, method: 'POST', body: 'x' }]) {
        t.match(await sendRequest(nginx.url, request), { status: 503, headers: { 'retry-after': '1' } });
      }
      t.equal(application.requests.length, before, 'the application receives no request');
      await startGatecar(t, gatecarSettings);
      t.match(await sendRequest(nginx.url, { token }), { status: 200, body: 'system:serviceaccount:apps:web' });
      t.equal((await sendRequest(nginx.url, { token: 'garbage' })).status, 401);
    },
  );

  function request(methodAndPath: string, lines: readonly string[]): string {
    return [`${methodAndPath} HTTP/1.1`, 'Host: app', `Authorization: Bearer ${token}`, ...lines, '', ''].join('\r\n');
  }
});

function identityHeaders(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`x-auth-request-${name}`, value]));
}
