import t, { type Test } from 'tap';
import { ConfigError, readConfig } from '../../src/config/load.ts';
import { startGatecar, startWithFakeApi, type TestGatecarWithFakeApi } from '../fixtures/gatecar.ts';
import { CONTRACT_HEADERS } from '../fixtures/identities.ts';
import { assertSameResponses, ODD_PATHS, URI_HEADERS } from '../fixtures/same-responses.ts';
import { NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';

// Advisories that other products had to publish. Each title begins with its number.

/** Starts a gatecar that trusts its peer, and one that trusts no proxy. */
async function withAndWithoutTrust(t: Test): Promise<TestGatecarWithFakeApi[]> {
  const instances = [
    await startWithFakeApi({ GATECAR_TRUSTED_PROXIES: '127.0.0.1', GATECAR_CLIENT_IP_HEADER: 'X-Real-IP' }),
    await startWithFakeApi(),
  ];
  for (const gatecar of instances) t.teardown(() => gatecar.stop());
  return instances;
}

/** Starts a gatecar in front of an API server whose responses the test sets. */
async function startBehindStandIn(t: Test, settings: Record<string, string> = {}) {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, ...settings });
  t.teardown(() => gatecar.stop());
  return { standIn, gatecar };
}

const inUriHeaders = (value: string) => ({ headers: Object.fromEntries(URI_HEADERS.map(name => [name, value])) });

t.test('CVE-2021-32637 an original URI that cannot be parsed does not change the result', async t => {
  const random = seeded(32_637);
  const sendable = NASTY_PIECES.map(piece => piece.replace(/[^\t\x20-\x7e\x80-\xff]/g, '%')) as [string, ...string[]];
  const uris = Array.from({ length: 200 }, () => `/${random.text(sendable, 12)}`);
  for (const gatecar of await withAndWithoutTrust(t))
    await assertSameResponses(t, gatecar.auth, gatecar.token(), uris.map(inUriHeaders));
});

t.test('CVE-2026-40575 headers of an untrusted proxy about the original request are not logged', async t => {
  const gatecar = await startWithFakeApi();
  t.teardown(() => gatecar.stop());
  const headers = { 'X-Real-IP': '192.0.2.66', 'X-Forwarded-For': '192.0.2.66', 'X-Request-ID': 'said' };
  await assertSameResponses(t, gatecar.auth, gatecar.token(), [inUriHeaders('/said'), { headers }]);
  t.notMatch(gatecar.logText(), /said|192\.0\.2\.66/);
  t.match(gatecar.logText(), '"clientAddress":"127.0.0.1"');
});

t.test('CVE-2026-41059 a fragment, encoded or not, makes no path public', async t => {
  const paths = ['/public#/../admin', '/admin#/public', '/admin%23/public', '/admin%2523/public'];
  for (const gatecar of await withAndWithoutTrust(t))
    await assertSameResponses(t, gatecar.auth, gatecar.token(), paths.map(inUriHeaders));
});

t.test('CVE-2025-54576 a query that looks like a public path makes no path public', async t => {
  const requests = ['?/public', '?x=/public', '?x=/healthz', '?/livez'].flatMap(query => [
    { path: `/auth${query}` },
    { path: `/auth/admin${query}` },
    inUriHeaders(`/admin${query}`),
  ]);
  for (const gatecar of await withAndWithoutTrust(t))
    await assertSameResponses(t, gatecar.auth, gatecar.token(), requests);
});

/** Names with underscores instead of dashes, which CGI and similar interfaces treat as equal. */
const UNDERSCORES = {
  X_Forwarded_Uri: '/healthz',
  X_Forwarded_For: '192.0.2.66',
  X_Original_URI: '/under_score',
  X_Real_IP: '192.0.2.66',
  X_Auth_Request_User: 'under_score',
  X_Request_ID: 'under_score',
  Content_Length: '5',
  Transfer_Encoding: 'chunked',
};

t.test('CVE-2025-64484 header names with underscores are never read, and no setting accepts one', async t => {
  for (const gatecar of await withAndWithoutTrust(t)) {
    await assertSameResponses(t, gatecar.auth, gatecar.token(), [{ headers: UNDERSCORES }]);
    t.notMatch(gatecar.logText(), /under_score|192\.0\.2\.66/);
  }
  for (const env of [
    { GATECAR_CLIENT_IP_HEADER: 'X_Real_IP', GATECAR_TRUSTED_PROXIES: '127.0.0.1' },
    { GATECAR_IDENTITY_HEADER_PREFIX: 'X_Auth_Request_' },
  ]) {
    t.throws(() => readConfig([], env), ConfigError);
  }
});

t.test('CVE-2026-39858 a credential under an alias of Authorization, or another name, counts as none', async t => {
  const [gatecar] = await withAndWithoutTrust(t);
  const names = [
    'Authorization_',
    '_Authorization',
    'HTTP_AUTHORIZATION',
    'X-Authorization',
    'X_Authorization',
    'Proxy-Authorization',
    'X-Forwarded-Authorization',
    'X-Original-Authorization',
    'X-Forwarded-Access-Token',
    'X-Auth-Request-Access-Token',
    'Sec-WebSocket-Protocol',
    'Authentication',
    'Token',
    'Access-Token',
    'WWW-Authenticate',
  ];
  for (const name of names) {
    const headers = { [name]: `Bearer ${gatecar?.token()}` };
    t.match(await sendRequest(gatecar?.auth ?? '', { headers }), { status: 401, body: /Missing/ }, name);
  }
});

t.test('CVE-2026-35051, CVE-2026-54764 no forwarded header of any name changes a decision', async t => {
  const names = [
    'Prefix',
    'Port',
    'Proto',
    'Server',
    'Host',
    'Method',
    'Scheme',
    'Ssl',
    'User',
    'Groups',
    'Tls-Client-Cert',
  ];
  const requests = ['443', '/admin', 'https', 'localhost', ''].map(value => ({
    headers: Object.fromEntries(names.map(name => [`X-Forwarded-${name}`, value])),
  }));
  for (const gatecar of await withAndWithoutTrust(t))
    await assertSameResponses(t, gatecar.auth, gatecar.token(), requests);
});

t.test('CVE-2026-30851 a user without groups has an empty groups header, whatever the client sent', async t => {
  const { standIn, gatecar } = await startBehindStandIn(t);
  standIn.behaviour = accepts({ user: { username: 'system:serviceaccount:default:my-app' } });
  const headers = { 'X-Auth-Request-Groups': 'admin', 'X-Auth-Request-Uid': '0', Connection: 'X-Auth-Request-Groups' };
  const reply = await sendRequest(gatecar.auth, { token: 'no-groups', headers });
  t.match(reply, { status: 200, headers: { 'x-auth-request-groups': '', 'x-auth-request-uid': '' } });
  t.match(reply.headers['x-envoy-auth-headers-to-remove'], /\bX-Auth-Request-Groups\b/);
});

t.test('CVE-2026-31908 CR, LF and NUL from the API server start no header and no line', async t => {
  const hostileText = 'a\r\nX-Auth-Request-Groups: system:masters\n\r\n\0\u2028HTTP/1.1 200 OK';
  const { standIn, gatecar } = await startBehindStandIn(t, { GATECAR_ALLOWED_NAMESPACES: 'default' });
  const extra = Object.fromEntries(
    ['pod-name', 'pod-uid', 'node-name', 'credential-id'].map(key => [
      `authentication.kubernetes.io/${key}`,
      [hostileText],
    ]),
  );
  for (const user of [
    { username: 'system:serviceaccount:default:my-app', uid: hostileText, groups: [hostileText, 'b'], extra },
    { username: hostileText, uid: hostileText, groups: [hostileText], extra },
  ]) {
    standIn.behaviour = accepts({ user });
    const reply = await sendRequest(gatecar.auth, { token: `evil-${standIn.requests.length}` });
    t.equal(reply.status, user.username === hostileText ? 401 : 200);
    t.ok(reply.rawHeaders.every(part => /^[\x20-\x7e]*$/.test(part)));
    t.notMatch(reply.body, /[^\x20-\x7e]/);
    t.notMatch(reply.headers['x-auth-request-groups'] ?? '', /^system:masters|,system:masters/);
  }
});

t.test(
  'CVE-2025-24514, CVE-2026-1580, CVE-2025-15566 no setting injects a line into a gateway configuration',
  async t => {
    for (const prefix of ['X-"; return 200; #-', 'X-\n-', 'X-$x-', 'X-;-', 'X-{-', 'X- -', "X-'-", 'X-:-', 'X-é-']) {
      t.throws(() => readConfig([], { GATECAR_IDENTITY_HEADER_PREFIX: prefix }), ConfigError, JSON.stringify(prefix));
    }
  },
);

t.test('ingress-nginx#8644 a raw path with dot segments in X-Original-URL changes nothing', async t => {
  const uris = ODD_PATHS.map(path => inUriHeaders(`https://gatecar.example${path}`));
  for (const gatecar of await withAndWithoutTrust(t)) await assertSameResponses(t, gatecar.auth, gatecar.token(), uris);
});

t.test('GHSA-p224-6x5r-fjpm, CVE-2026-42274, CVE-2021-29492, CVE-2021-31920 no path changes the result', async t => {
  const requests = ODD_PATHS.filter(path => !path.includes('#')).map(path => ({ path: `/auth${path}` }));
  for (const gatecar of await withAndWithoutTrust(t)) {
    await assertSameResponses(t, gatecar.auth, gatecar.token(), [...requests, ...ODD_PATHS.map(inUriHeaders)]);
  }
});

t.test('GHSA-vhr5-ggp3-qq85 the reported scheme changes nothing', async t => {
  const requests = ['http', 'https', 'HTTPS', 'ws', 'file', 'https, http', ''].map(scheme => ({
    headers: {
      'X-Forwarded-Proto': scheme,
      'X-Forwarded-Scheme': scheme,
      'X-Scheme': scheme,
      Forwarded: `proto=${scheme}`,
    },
  }));
  for (const gatecar of await withAndWithoutTrust(t))
    await assertSameResponses(t, gatecar.auth, gatecar.token(), requests);
});

t.test(
  'CVE-2021-32701, GHSA-4mq7-pvjg-xp2r a result holds for its audiences, and policy is evaluated on each request',
  async t => {
    const first = await startWithFakeApi({ GATECAR_TOKEN_AUDIENCES: 'one' });
    t.teardown(() => first.stop());
    const startWithSameApi = async (settings: Record<string, string>) => {
      const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: first.apiServer.url, ...settings });
      t.teardown(() => gatecar.stop());
      return gatecar;
    };
    const second = await startWithSameApi({ GATECAR_TOKEN_AUDIENCES: 'two' });
    const withoutAudience = await startWithSameApi({ GATECAR_TOKEN_AUDIENCES: '' });
    const narrow = await startWithSameApi({ GATECAR_TOKEN_AUDIENCES: 'one', GATECAR_ALLOWED_NAMESPACES: 'other' });
    const token = first.token({ audiences: ['one'] });
    for (let i = 0; i < 3; i += 1) {
      t.equal((await sendRequest(first.auth, { token })).status, 200);
      t.match(await sendRequest(second.auth, { token }), { status: 401, body: /audiences/ });
      t.match(await sendRequest(withoutAudience.auth, { token }), { status: 401, body: /audiences/ });
      t.match(await sendRequest(narrow.auth, { token }), { status: 401, body: /unauthorized namespace/ });
    }
  },
);

t.test('CVE-2021-32779, CVE-2021-39156 a fragment in the request target makes the path a different one', async t => {
  const [gatecar] = await withAndWithoutTrust(t);
  for (const path of ['/auth#', '/auth#/../x', '/livez#/auth', '/#/auth']) {
    t.equal((await sendRequest(gatecar?.auth ?? '', { path, token: gatecar?.token() ?? '' })).status, 404, path);
  }
  await assertSameResponses(t, gatecar?.auth ?? '', gatecar?.token() ?? '', [
    { path: '/auth/x#y' },
    { path: '/auth?x#y' },
  ]);
});

t.test('CVE-2021-39155 the host, in any form, changes nothing', async t => {
  const hosts = ['Admin.Example', 'admin.example.', 'ADMIN.EXAMPLE:443', '[::1]:80', 'a@b', '..', 'a, b', '*', ''];
  const requests = hosts.map(Host => ({ headers: { Host, 'X-Forwarded-Host': Host } }));
  for (const gatecar of await withAndWithoutTrust(t))
    await assertSameResponses(t, gatecar.auth, gatecar.token(), requests);
});

t.test('CVE-2023-33189, CVE-2021-41230, CVE-2024-47616 user data is never older than the TTL', async t => {
  const { standIn, gatecar } = await startBehindStandIn(t, {
    GATECAR_CACHE_TTL: '50ms',
    GATECAR_CACHE_NEGATIVE_TTL: '50ms',
  });
  const groups = async () => (await sendRequest(gatecar.auth, { token: 'the-token' })).headers['x-auth-request-groups'];
  const user = { username: 'system:serviceaccount:default:my-app', groups: ['admins'] };
  standIn.behaviour = accepts({ user });
  t.equal(await groups(), 'admins');
  standIn.behaviour = accepts({ user: { ...user, groups: ['viewers'] } });
  const changed = performance.now();
  while ((await groups()) === 'admins');
  t.ok(performance.now() - changed < 10_000, 'changed after the TTL');
  t.equal(await groups(), 'viewers');
  standIn.behaviour = accepts({ user, audiences: ['https://kubernetes.default.svc'] });
  while ((await sendRequest(gatecar.auth, { token: 'the-token' })).status === 200);
  t.match(await sendRequest(gatecar.auth, { token: 'the-token' }), { status: 401, body: /audiences are not accepted/ });
});

t.test('kubernetes#119631 identity headers under another prefix overwrite those of the client', async t => {
  const gatecar = await startWithFakeApi({ GATECAR_IDENTITY_HEADER_PREFIX: 'X-Remote-' });
  t.teardown(() => gatecar.stop());
  const headers = Object.fromEntries(CONTRACT_HEADERS.map(name => [`X-Remote-${name}`, 'forged']));
  const reply = await sendRequest(gatecar.auth, { token: gatecar.token(), headers });
  t.equal(reply.headers['x-remote-user'], 'system:serviceaccount:default:my-app');
  t.same(Object.keys(reply.headers).filter(name => name.startsWith('x-remote-')).length, CONTRACT_HEADERS.length);
  t.notMatch(reply.rawHeaders.join('\n'), 'forged');
});
