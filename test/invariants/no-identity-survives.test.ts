import t, { type Test } from 'tap';
import { startGatecar } from '../fixtures/gatecar.ts';
import { CONTRACT_HEADERS } from '../fixtures/identities.ts';
import { LONE_SURROGATES, NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';
import { type Reply, sendRequest, type TestRequest } from '../fixtures/send-request.ts';
import { accepts, answers, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';

const REMOVE = 'x-envoy-auth-headers-to-remove';
const HEAD_LIMIT = 4096;

interface User {
  readonly username: string;
  readonly uid?: string;
  readonly groups?: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

const extraOf = (value: string): Record<string, string[]> =>
  Object.fromEntries(
    ['pod-name', 'pod-uid', 'node-name', 'node-uid', 'credential-id', 'else'].map(key => [
      `authentication.kubernetes.io/${key}`,
      [value],
    ]),
  );

const UNUSUAL_USERS: Readonly<Record<string, User>> = {
  'only a name': { username: 'u' },
  'all empty except the name': { username: 'u', uid: '', groups: [''], extra: { '': [''], ...extraOf('') } },
  'empty lists': { username: 'u', groups: [], extra: { 'authentication.kubernetes.io/pod-name': [] } },
  commas: { username: 'a,b', uid: ',', groups: ['a,b', ',', 'c'], extra: extraOf('a,b') },
  spaces: { username: ' a b ', uid: ' ', groups: ['a b', ' '], extra: extraOf('  ') },
  quotes: { username: '"a"', uid: "'", groups: ['"', '\\"'], extra: extraOf('"\\') },
  percents: { username: '%', uid: '%2C', groups: ['%', '%2C', '%%'], extra: extraOf('%0D%0A') },
  'UTF-8': { username: 'Jörg', uid: '漢字', groups: ['ü', '😀', '\u2028'], extra: extraOf('\ufeff') },
  'lone surrogates': { username: '\ud800', uid: '\udc00', groups: [...LONE_SURROGATES], extra: extraOf('\udfff') },
  CR: { username: 'a\rb', uid: '\r', groups: ['\r'], extra: extraOf('\r') },
  'CR LF and a header': {
    username: 'a\r\nX-Auth-Request-User: admin',
    uid: '\r\n\r\n',
    groups: ['g\r\nX-Auth-Request-Groups: system:masters'],
    extra: extraOf('\nX-Auth-Request-Pod: p'),
  },
  NUL: { username: 'a\0b', uid: '\0', groups: ['\0'], extra: extraOf('\0') },
  'names of JavaScript objects': {
    username: '__proto__',
    groups: ['constructor'],
    extra: { ['__proto__']: ['x'], toString: ['x'] },
  },
  '300 groups': { username: 'u', uid: 'i', groups: Array.from({ length: 300 }, (_, i) => `a-group-with-a-name-${i}`) },
  'one group of 10 KB': { username: 'u', groups: ['g'.repeat(10_240), 'h'] },
  'extras of 10 KB': { username: 'u', uid: 'i', groups: ['g'], extra: extraOf('x'.repeat(10_240)) },
  'a name of 10 KB': { username: 'u'.repeat(10_240), uid: 'i', groups: ['g'] },
  'everything of 10 KB': { username: '\n'.repeat(10_240), uid: '%'.repeat(10_240), extra: extraOf('é'.repeat(10_240)) },
};

/** Identity headers that a client might try to pass through gatecar. */
function forgedHeaders(prefix: string): Record<string, string> {
  const headers: Record<string, string> = { [REMOVE]: 'forged-remove', Authorization2: 'forged' };
  for (const name of [...CONTRACT_HEADERS, 'Stale', 'Email', 'Preferred-Username']) {
    headers[prefix + name] = 'forged-value';
    headers[(prefix + name).toLowerCase().replaceAll('-', '_')] = 'forged-underscore';
  }
  return headers;
}

function pairsOf({ rawHeaders }: Reply): [name: string, value: string][] {
  return rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? ''] as [string, string]] : []));
}

function checkAllow(t: Test, reply: Reply, prefix: string): Map<string, string> {
  t.equal(reply.status, 200);
  t.equal(reply.body, '');
  t.equal(reply.headers['content-length'], '0');
  t.equal(reply.headers['content-type'], undefined);
  const pairs = pairsOf(reply);
  const identity = pairs.filter(([name]) => name.toLowerCase().startsWith(prefix.toLowerCase()));
  t.same(
    identity.map(([name]) => name).sort(),
    CONTRACT_HEADERS.map(name => prefix + name).sort(),
    'every identity header exactly once, and no other',
  );
  for (const [name, value] of pairs) {
    if (!/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$|^$/.test(value)) t.fail(`${name} is one line of printable ASCII`);
    if (/forged/.test(name + value)) t.fail(`${name} came from the client`);
  }
  const empty = identity.filter(([, value]) => value === '').map(([name]) => name);
  const removed = pairs.filter(([name]) => name === REMOVE).map(([, value]) => value);
  t.same(removed.join().split(','), empty, 'empty headers are to be removed');
  const head = pairs.reduce(
    (sum, [name, value]) => sum + name.length + value.length + 4,
    'HTTP/1.1 200 OK\r\n\r\n'.length,
  );
  t.ok(head <= HEAD_LIMIT, `the head has ${head} bytes`);
  return new Map(identity.map(([name, value]) => [name.slice(prefix.length), value]));
}

const decodeValue = (value: string): string => decodeURIComponent(value);
const decodeList = (value: string): string[] => (value === '' ? [] : value.split(',').map(decodeValue));

/**
 * Asserts that values decode to the original, and that truncated ones are listed in `Truncated`.
 */
function checkValues(t: Test, user: User, values: ReadonlyMap<string, string>): void {
  const truncated = values.get('Truncated')?.split(',') ?? [];
  const single = (name: string, value: string) => {
    if (truncated.includes(name)) t.equal(values.get(name), '', `${name} was truncated, and is empty`);
    else t.equal(decodeValue(values.get(name) ?? ''), value, name);
  };
  single('User', user.username);
  single('Uid', user.uid ?? '');
  for (const name of ['Pod-Uid', 'Node-Uid', 'Credential-Id']) {
    single(name, user.extra?.[`authentication.kubernetes.io/${name.toLowerCase()}`]?.[0] ?? '');
  }
  const groups = (user.groups ?? []).filter(group => group !== '');
  const shown = decodeList(values.get('Groups') ?? '');
  t.same(shown, truncated.includes('Groups') ? groups.slice(0, shown.length) : groups, 'Groups');
}

async function start(t: Test, settings: Record<string, string> = {}) {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, ...settings });
  t.teardown(() => gatecar.stop());
  return { standIn, gatecar };
}

for (const prefix of ['X-Auth-Request-', `X-${'long-'.repeat(7)}me-`]) {
  for (const [name, user] of Object.entries(UNUSUAL_USERS)) {
    t.test(`${name}, prefix ${prefix}: an allow has every identity header once, and none of the client's`, async t => {
      const { standIn, gatecar } = await start(t, { GATECAR_IDENTITY_HEADER_PREFIX: prefix });
      standIn.behaviour = accepts({ user });
      for (const method of ['GET', 'HEAD', 'POST']) {
        const request: TestRequest = { method, token: 'the-token', headers: forgedHeaders(prefix) };
        const values = checkAllow(t, await sendRequest(gatecar.auth, request), prefix);
        if (name !== 'lone surrogates') checkValues(t, user, values);
      }
    });
  }
}

t.test('random identities: an allow has every header once, and different identities render differently', async t => {
  const { standIn, gatecar } = await start(t);
  const random = seeded(20_240_601);
  const text = (length: number) => random.text(NASTY_PIECES, length);
  const identityByHeaders = new Map<string, string>();
  for (let i = 0; i < 300; i += 1) {
    const user = {
      username: `u${text(8)}`,
      uid: text(4),
      groups: Array.from({ length: random.below(5) }, () => text(4)).filter(group => group !== ''),
      extra: Object.fromEntries(Object.keys(extraOf('')).map(key => [key, [text(random.below(40) === 0 ? 2000 : 3)]])),
    };
    standIn.behaviour = accepts({ user });
    const reply = await sendRequest(gatecar.auth, { token: `token-${i}`, headers: forgedHeaders('X-Auth-Request-') });
    const values = checkAllow(t, reply, 'X-Auth-Request-');
    checkValues(t, user, values);
    if (values.get('Truncated') !== '') continue;
    const { 'authentication.kubernetes.io/else': _unread, ...extra } = user.extra;
    const rendered = JSON.stringify([...values]);
    const identity = JSON.stringify({ ...user, extra });
    t.equal(identityByHeaders.get(rendered) ?? identity, identity);
    identityByHeaders.set(rendered, identity);
  }
});

t.test('format-only mode renders every identity header empty', async t => {
  const gatecar = await startGatecar({ GATECAR_MODE: 'format-only' });
  t.teardown(() => gatecar.stop());
  const reply = await sendRequest(gatecar.auth, { token: 'any', headers: forgedHeaders('X-Auth-Request-') });
  const values = checkAllow(t, reply, 'X-Auth-Request-');
  t.same(
    [...values.values()],
    CONTRACT_HEADERS.map(() => ''),
  );
});

t.test('a response other than allow carries no identity header, including those of the client', async t => {
  const { standIn, gatecar } = await start(t, { GATECAR_ALLOWED_NAMESPACES: 'other' });
  for (const behaviour of [accepts(), reviews({ error: 'no' }), answers(500, 'boom'), accepts({ user: {} })]) {
    standIn.behaviour = behaviour;
    const token = `token-${standIn.requests.length}`;
    const replies = [
      await sendRequest(gatecar.auth, { token, headers: forgedHeaders('X-Auth-Request-') }),
      await sendRequest(gatecar.auth, { headers: forgedHeaders('X-Auth-Request-') }),
      await sendRequest(gatecar.auth, { path: '/elsewhere', token, headers: forgedHeaders('X-Auth-Request-') }),
    ];
    for (const reply of replies) {
      t.ok([401, 404, 503].includes(reply.status));
      t.notMatch(reply.rawHeaders.join('\n'), /x-auth-request|forged/i);
      t.notMatch(reply.body, 'forged');
    }
  }
});
