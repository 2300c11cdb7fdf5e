import t from 'tap';
import { sendRaw, sendRequest } from '../fixtures/send-request.ts';
import { type Behaviour, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { type Received, startApplication } from './fixtures/support/application.ts';
import { envoyExample, startEnvoy } from './fixtures/support/envoy.ts';
import { identityOf } from './fixtures/support/forged-identity.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { listening, newNeighbours } from './fixtures/support/gateway-suite.ts';
import type { Gateway } from './fixtures/support/gateway-under-test.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, startNginx } from './fixtures/support/nginx.ts';

// Identities that no cluster should have, but that a webhook or an identity provider may return,
// through real gateways. A stand-in for the API server returns them by token.

interface User {
  readonly username: string;
  readonly uid?: string;
  readonly groups?: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

const repeated = (count: number, length: number) =>
  Array.from({ length: count }, (_, index) => `${index}-${'g'.repeat(length)}`.slice(0, length));
const extra = (values: Record<string, string>) =>
  Object.fromEntries(Object.entries(values).map(([key, value]) => [`authentication.kubernetes.io/${key}`, [value]]));

const USERS: Readonly<Record<string, User>> = {
  plain: { username: 'jane', groups: ['a', 'b'] },
  commas: { username: 'Doe, Jane', groups: ['a,b', 'c', ',', ',,'] },
  spaces: { username: ' two  words ', groups: [' a', 'b ', 'c d', ' '] },
  quotes: { username: `"it's" <b>\\`, groups: ['"', "'", '\\', ';', '='] },
  percents: { username: '100%2C%', groups: ['%', '%2C', '%%41'] },
  unicode: { username: 'zoë 😀 \u202e', groups: ['größe', '組', '\u0085', '\u2028'] },
  lines: {
    username: 'x\r\nX-Injected: yes\r\n\r\nGET / HTTP/1.1',
    uid: '1\nX-Injected: yes',
    groups: ['a\r\nX-Injected: yes', 'b\u0000c', '\t', '\u007f', '\n'],
    extra: extra({ 'pod-name': 'p\r\nX-Injected: yes', 'node-name': '\u0000', 'credential-id': 'JTI=\r\n' }),
  },
  'a name that is a header line': {
    username: 'X-Auth-Request-Groups: admin',
    groups: ['X-Auth-Request-User', 'system:masters'],
  },
  '300 groups': { username: 'jane', groups: repeated(300, 40) },
  '300 non-ASCII groups': { username: 'jane', groups: repeated(300, 20).map(name => `${name}größe, %`) },
  'one huge group': { username: 'jane', groups: ['small', 'g'.repeat(10_240), 'after'] },
  'extras of 10 KB': {
    username: 'jane',
    extra: { ...extra({ 'pod-name': 'p'.repeat(10_240), 'node-name': 'n' }), other: repeated(100, 1_000) },
  },
  'a name of 10 KB': { username: 'ü'.repeat(5_120), uid: 'u'.repeat(10_240), groups: repeated(300, 40) },
};

/** The headers that are truncated, by identity. */
const TRUNCATED: Readonly<Record<string, string>> = {
  '300 groups': 'Groups',
  '300 non-ASCII groups': 'Groups',
  'one huge group': 'Groups',
  'extras of 10 KB': 'Pod',
  'a name of 10 KB': 'User,Uid,Groups',
};

const HEAD_LIMIT = 4096;
const missing = gatewayMissing('nginx') ?? gatewayMissing('envoy');

t.test('unusual identities pass real gateways encoded', { skip: skipWithout(missing) }, async t => {
  /**
   * `user-<n>` is one of {@link USERS}, `error-<n>` a rejection with one of {@link ODD_ERRORS}.
   */
  const byToken: Behaviour = (request, response) => {
    const [kind, index] = request.token?.split('-') ?? [];
    const user = Object.values(USERS)[Number(index)];
    const authenticated = { authenticated: true, user, audiences: ['bindcar'] };
    const rejected = { authenticated: false, error: ODD_ERRORS[Number(index)] };
    reviews(kind === 'user' ? authenticated : rejected)(request, response);
  };
  const standIn = await startStandIn(byToken);
  t.teardown(() => standIn.close());
  const application = await startApplication(t);
  const neighbours = await newNeighbours(application);
  const gatecar = await startGatecar(t, { ...listening(neighbours), GATECAR_KUBE_API_URL: standIn.url });
  const gateways: Record<string, Gateway> = {
    nginx: await startNginx(t, await exampleConfig([gatecar.auth], application.url)),
    'Envoy over HTTP': await startEnvoy(t, await envoyExample('envoy-http'), neighbours),
    'Envoy over gRPC': await startEnvoy(t, await envoyExample('envoy-grpc'), neighbours),
  };

  for (const [index, [name, user]] of Object.entries(USERS).entries()) {
    const token = `user-${index}`;
    t.test(`identity with ${name}: encoded, complete or marked as truncated`, async t => {
      const head = await sendRaw(
        gatecar.auth,
        `GET /auth HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`,
      );
      t.match(head, /^HTTP\/1\.1 200 /);
      t.ok(head.length < HEAD_LIMIT, `${head.length} bytes of head`);
      for (const [gateway, { url }] of Object.entries(gateways)) {
        t.equal((await sendRequest(url, { path: '/odd', token })).status, 200, gateway);
        const received = application.requests.at(-1);
        t.match(received?.rawHeaders.filter((_, i) => i % 2 === 1).join(''), /^[\x20-\x7e]*$/, gateway);
        t.strictSame(repeatedIn(received), [], `${gateway}: each name exactly once`);
        t.notMatch(received?.headers, { 'x-injected': /./ }, gateway);
        const { truncated = '', groups, user: receivedUser = '', ...rest } = identityOf(received);
        t.equal(truncated, TRUNCATED[name] ?? '', `${gateway}: truncated headers are listed`);
        const truncatedNames = truncated.split(',');
        t.equal(decode(receivedUser), truncatedNames.includes('User') ? '' : user.username, gateway);
        const receivedGroups = groups === undefined ? [] : groups.split(',').map(decode);
        const all = user.groups ?? [];
        t.strictSame(
          receivedGroups,
          truncatedNames.includes('Groups') ? all.slice(0, receivedGroups.length) : all,
          gateway,
        );
        t.ok(receivedGroups.length > 0 || all.length === 0, `${gateway}: at least one group fits`);
        t.equal(decode(rest['uid'] ?? ''), truncatedNames.includes('Uid') ? '' : (user.uid ?? ''), gateway);
        for (const [header, key] of [
          ['pod', 'pod-name'],
          ['node', 'node-name'],
          ['credential-id', 'credential-id'],
        ] as const) {
          const expected = user.extra?.[`authentication.kubernetes.io/${key}`]?.[0] ?? '';
          t.equal(
            decode(rest[header] ?? ''),
            truncatedNames.includes('Pod') && header === 'pod' ? '' : expected,
            `${gateway}: ${key}`,
          );
        }
      }
    });
  }

  t.test('a rejection with an unusual error text is a rejection', async t => {
    for (const index of ODD_ERRORS.keys()) {
      const before = application.requests.length;
      for (const [gateway, { url }] of Object.entries(gateways)) {
        const reply = await sendRequest(url, { token: `error-${index}` });
        t.equal(reply.status, 401, gateway);
        t.match(reply.rawHeaders.join(''), /^[\x20-\x7e]*$/, gateway);
        t.notMatch(reply.headers, { 'x-injected': /./ }, gateway);
        if (gateway === 'nginx') continue;
        const text = (JSON.parse(reply.body) as { error: string }).error;
        t.match(text, /^Token validation failed: [\x20-\x7e]{1,1000}$/, gateway);
      }
      t.equal(application.requests.length, before);
    }
  });
});

const ODD_ERRORS = ['\r\nX-Injected: yes\r\n\r\n', 'größe "%" \u0000', 'e'.repeat(10_240)];

function repeatedIn(received: Received | undefined): string[] {
  const names = (received?.rawHeaders ?? []).filter((_, i) => i % 2 === 0).map(name => name.toLowerCase());
  return names.filter((name, index) => names.indexOf(name) !== index);
}

function decode(value: string): string {
  return decodeURIComponent(value);
}
