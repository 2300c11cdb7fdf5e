import t, { type Test } from 'tap';
import { ConfigError, readConfig } from '../../src/config/load.ts';
import { ask } from '../fixtures/ask.ts';
import { startGate, startGatecar, type TestGate } from '../fixtures/gatecar.ts';
import { NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { changesNothing, ODD_PATHS, URI_HEADERS } from '../fixtures/verdict-of.ts';

// What other products had to publish an advisory for. Each title begins with its number.

/** A gate that believes its peer, and one that believes nobody. */
async function bothGates(t: Test): Promise<TestGate[]> {
  const gates = [
    await startGate({ GATECAR_TRUSTED_PROXIES: '127.0.0.1', GATECAR_CLIENT_IP_HEADER: 'X-Real-IP' }),
    await startGate(),
  ];
  for (const gate of gates) t.teardown(() => gate.stop());
  return gates;
}

/** A gatecar in front of an API server that says what a test tells it to. */
async function standInGate(t: Test, settings: Record<string, string> = {}) {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, ...settings });
  t.teardown(() => gatecar.stop());
  return { standIn, gatecar };
}

const inUriHeaders = (value: string) => ({ headers: Object.fromEntries(URI_HEADERS.map(name => [name, value])) });

t.test('CVE-2021-32637 an original URI that cannot be parsed falls through to nothing', async t => {
  const random = seeded(32_637);
  const sendable = NASTY_PIECES.map(piece => piece.replace(/[^\t\x20-\x7e\x80-\xff]/g, '%')) as [string, ...string[]];
  const uris = Array.from({ length: 200 }, () => `/${random.text(sendable, 12)}`);
  for (const gate of await bothGates(t)) await changesNothing(t, gate.auth, gate.token(), uris.map(inUriHeaders));
});

t.test('CVE-2026-40575 what an untrusted proxy says of the original request is not even logged', async t => {
  const gate = await startGate();
  t.teardown(() => gate.stop());
  const said = { 'X-Real-IP': '192.0.2.66', 'X-Forwarded-For': '192.0.2.66', 'X-Request-ID': 'said' };
  await changesNothing(t, gate.auth, gate.token(), [inUriHeaders('/said'), { headers: said }]);
  t.notMatch(gate.logText(), /said|192\.0\.2\.66/);
  t.match(gate.logText(), '"clientAddress":"127.0.0.1"');
});

t.test('CVE-2026-41059 a fragment, encoded or not, makes nothing public', async t => {
  const paths = ['/public#/../admin', '/admin#/public', '/admin%23/public', '/admin%2523/public'];
  for (const gate of await bothGates(t)) await changesNothing(t, gate.auth, gate.token(), paths.map(inUriHeaders));
});

t.test('CVE-2025-54576 a query that looks like a public path makes nothing public', async t => {
  const questions = ['?/public', '?x=/public', '?x=/healthz', '?/livez'].flatMap(query => [
    { path: `/auth${query}` },
    { path: `/auth/admin${query}` },
    inUriHeaders(`/admin${query}`),
  ]);
  for (const gate of await bothGates(t)) await changesNothing(t, gate.auth, gate.token(), questions);
});

/** With underscores where dashes belong, which CGI and its heirs take for the same. */
const UNDERSCORES = {
  ...{
    X_Forwarded_Uri: '/healthz',
    X_Forwarded_For: '192.0.2.66',
    X_Original_URI: '/under_score',
    X_Real_IP: '192.0.2.66',
  },
  ...{
    X_Auth_Request_User: 'under_score',
    X_Request_ID: 'under_score',
    Content_Length: '5',
    Transfer_Encoding: 'chunked',
  },
};

t.test('CVE-2025-64484 names with underscores are never read, and no setting takes one', async t => {
  for (const gate of await bothGates(t)) {
    await changesNothing(t, gate.auth, gate.token(), [{ headers: UNDERSCORES }]);
    t.notMatch(gate.logText(), /under_score|192\.0\.2\.66/);
  }
  for (const env of [
    { GATECAR_CLIENT_IP_HEADER: 'X_Real_IP', GATECAR_TRUSTED_PROXIES: '127.0.0.1' },
    { GATECAR_IDENTITY_HEADER_PREFIX: 'X_Auth_Request_' },
  ]) {
    t.throws(() => readConfig([], env), ConfigError);
  }
});

t.test('CVE-2026-39858 a credential under a name with underscores, or another name altogether, is none', async t => {
  const [gate] = await bothGates(t);
  const names = [
    ...[
      'Authorization_',
      '_Authorization',
      'HTTP_AUTHORIZATION',
      'X-Authorization',
      'X_Authorization',
      'Proxy-Authorization',
    ],
    ...[
      'X-Forwarded-Authorization',
      'X-Original-Authorization',
      'X-Forwarded-Access-Token',
      'X-Auth-Request-Access-Token',
    ],
    ...['Sec-WebSocket-Protocol', 'Authentication', 'Token', 'Access-Token', 'WWW-Authenticate'],
  ];
  for (const name of names) {
    const headers = { [name]: `Bearer ${gate?.token()}` };
    t.match(await ask(gate?.auth ?? '', { headers }), { status: 401, body: /Missing/ }, name);
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
  const questions = ['443', '/admin', 'https', 'localhost', ''].map(value => ({
    headers: Object.fromEntries(names.map(name => [`X-Forwarded-${name}`, value])),
  }));
  for (const gate of await bothGates(t)) await changesNothing(t, gate.auth, gate.token(), questions);
});

t.test('CVE-2026-30851 a user without groups has an empty header for them, whatever the client sent', async t => {
  const { standIn, gatecar } = await standInGate(t);
  standIn.behaviour = accepts({ user: { username: 'system:serviceaccount:default:my-app' } });
  const headers = { 'X-Auth-Request-Groups': 'admin', 'X-Auth-Request-Uid': '0', Connection: 'X-Auth-Request-Groups' };
  const reply = await ask(gatecar.auth, { token: 'no-groups', headers });
  t.match(reply, { status: 200, headers: { 'x-auth-request-groups': '', 'x-auth-request-uid': '' } });
  t.match(reply.headers['x-envoy-auth-headers-to-remove'], /\bX-Auth-Request-Groups\b/);
});

t.test('CVE-2026-31908 CR, LF and NUL in what the API server says begin no header and no line', async t => {
  const evil = 'a\r\nX-Auth-Request-Groups: system:masters\n\r\n\0\u2028HTTP/1.1 200 OK';
  const { standIn, gatecar } = await standInGate(t, { GATECAR_ALLOWED_NAMESPACES: 'default' });
  const extra = Object.fromEntries(
    ['pod-name', 'pod-uid', 'node-name', 'credential-id'].map(key => [`authentication.kubernetes.io/${key}`, [evil]]),
  );
  for (const user of [
    { username: 'system:serviceaccount:default:my-app', uid: evil, groups: [evil, 'b'], extra },
    { username: evil, uid: evil, groups: [evil], extra },
  ]) {
    standIn.behaviour = accepts({ user });
    const reply = await ask(gatecar.auth, { token: `evil-${standIn.requests.length}` });
    t.equal(reply.status, user.username === evil ? 401 : 200);
    t.ok(reply.rawHeaders.every(part => /^[\x20-\x7e]*$/.test(part)));
    t.notMatch(reply.body, /[^\x20-\x7e]/);
    t.notMatch(reply.headers['x-auth-request-groups'] ?? '', /^system:masters|,system:masters/);
  }
});

t.test(
  'CVE-2025-24514, CVE-2026-1580, CVE-2025-15566 no setting brings a line of its own into a gateway’s',
  async t => {
    for (const prefix of ['X-"; return 200; #-', 'X-\n-', 'X-$x-', 'X-;-', 'X-{-', 'X- -', "X-'-", 'X-:-', 'X-é-']) {
      t.throws(() => readConfig([], { GATECAR_IDENTITY_HEADER_PREFIX: prefix }), ConfigError, JSON.stringify(prefix));
    }
  },
);

t.test('ingress-nginx#8644 a raw path with dot segments in X-Original-URL changes nothing', async t => {
  const uris = ODD_PATHS.map(path => inUriHeaders(`https://gatecar.example${path}`));
  for (const gate of await bothGates(t)) await changesNothing(t, gate.auth, gate.token(), uris);
});

t.test('GHSA-p224-6x5r-fjpm, CVE-2026-42274, CVE-2021-29492, CVE-2021-31920 there is no rule about paths', async t => {
  const questions = ODD_PATHS.filter(path => !path.includes('#')).map(path => ({ path: `/auth${path}` }));
  for (const gate of await bothGates(t)) {
    await changesNothing(t, gate.auth, gate.token(), [...questions, ...ODD_PATHS.map(inUriHeaders)]);
  }
});

t.test('GHSA-vhr5-ggp3-qq85 the scheme that is said to have been used changes nothing', async t => {
  const questions = ['http', 'https', 'HTTPS', 'ws', 'file', 'https, http', ''].map(scheme => ({
    headers: {
      'X-Forwarded-Proto': scheme,
      'X-Forwarded-Scheme': scheme,
      'X-Scheme': scheme,
      Forwarded: `proto=${scheme}`,
    },
  }));
  for (const gate of await bothGates(t)) await changesNothing(t, gate.auth, gate.token(), questions);
});

t.test(
  'CVE-2021-32701, GHSA-4mq7-pvjg-xp2r a result holds for the audiences asked for, and policy is judged each time',
  async t => {
    const one = await startGate({ GATECAR_TOKEN_AUDIENCES: 'one' });
    t.teardown(() => one.stop());
    const beside = async (settings: Record<string, string>) => {
      const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: one.authority.url, ...settings });
      t.teardown(() => gatecar.stop());
      return gatecar;
    };
    const two = await beside({ GATECAR_TOKEN_AUDIENCES: 'two' });
    const none = await beside({ GATECAR_TOKEN_AUDIENCES: '' });
    const narrow = await beside({ GATECAR_TOKEN_AUDIENCES: 'one', GATECAR_ALLOWED_NAMESPACES: 'other' });
    const token = one.token({ audiences: ['one'] });
    for (let i = 0; i < 3; i += 1) {
      t.equal((await ask(one.auth, { token })).status, 200);
      t.match(await ask(two.auth, { token }), { status: 401, body: /audiences/ });
      t.match(await ask(none.auth, { token }), { status: 401, body: /audiences/ });
      t.match(await ask(narrow.auth, { token }), { status: 401, body: /unauthorized namespace/ });
    }
  },
);

t.test(
  'CVE-2021-32779, CVE-2021-39156 a fragment in the request line is no part of /auth, nor of anything else',
  async t => {
    const [gate] = await bothGates(t);
    for (const path of ['/auth#', '/auth#/../x', '/livez#/auth', '/#/auth']) {
      t.equal((await ask(gate?.auth ?? '', { path, token: gate?.token() ?? '' })).status, 404, path);
    }
    await changesNothing(t, gate?.auth ?? '', gate?.token() ?? '', [{ path: '/auth/x#y' }, { path: '/auth?x#y' }]);
  },
);

t.test('CVE-2021-39155 the host, in whatever form, changes nothing', async t => {
  const hosts = ['Admin.Example', 'admin.example.', 'ADMIN.EXAMPLE:443', '[::1]:80', 'a@b', '..', 'a, b', '*', ''];
  const questions = hosts.map(Host => ({ headers: { Host, 'X-Forwarded-Host': Host } }));
  for (const gate of await bothGates(t)) await changesNothing(t, gate.auth, gate.token(), questions);
});

t.test('CVE-2023-33189, CVE-2021-41230, CVE-2024-47616 what is said of a user is never older than the TTL', async t => {
  const { standIn, gatecar } = await standInGate(t, {
    GATECAR_CACHE_TTL: '50ms',
    GATECAR_CACHE_NEGATIVE_TTL: '50ms',
  });
  const groups = async () => (await ask(gatecar.auth, { token: 'the-token' })).headers['x-auth-request-groups'];
  const user = { username: 'system:serviceaccount:default:my-app', groups: ['admins'] };
  standIn.behaviour = accepts({ user });
  t.equal(await groups(), 'admins');
  standIn.behaviour = accepts({ user: { ...user, groups: ['nobody'] } });
  const changed = performance.now();
  while ((await groups()) === 'admins');
  t.ok(performance.now() - changed < 10_000, 'soon after');
  t.equal(await groups(), 'nobody');
  standIn.behaviour = accepts({ user, audiences: ['https://kubernetes.default.svc'] });
  while ((await ask(gatecar.auth, { token: 'the-token' })).status === 200);
  t.match(await ask(gatecar.auth, { token: 'the-token' }), { status: 401, body: /audiences are not accepted/ });
});

t.test('kubernetes#119631 identity headers under another prefix are overwritten as the usual ones are', async t => {
  const gate = await startGate({ GATECAR_IDENTITY_HEADER_PREFIX: 'X-Remote-' });
  t.teardown(() => gate.stop());
  const names = [
    'User',
    'Uid',
    'Groups',
    'Namespace',
    'Service-Account',
    'Pod',
    'Pod-Uid',
    'Node',
    'Node-Uid',
    'Credential-Id',
  ];
  const headers = Object.fromEntries([...names, 'Audiences', 'Truncated'].map(name => [`X-Remote-${name}`, 'forged']));
  const reply = await ask(gate.auth, { token: gate.token(), headers });
  t.equal(reply.headers['x-remote-user'], 'system:serviceaccount:default:my-app');
  t.same(Object.keys(reply.headers).filter(name => name.startsWith('x-remote-')).length, 12);
  t.notMatch(reply.rawHeaders.join('\n'), 'forged');
});
