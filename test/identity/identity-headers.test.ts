import t from 'tap';
import type { Identity } from '../../src/identity/identity.ts';
import {
  createIdentityHeaders,
  IDENTITY_HEADERS,
  MAX_PREFIX_LENGTH,
  maxValueBytes,
  REMOVE_HEADER,
} from '../../src/identity/identity-headers.ts';
import { CONTRACT_HEADERS, EMPTY_IDENTITY, MY_APP } from '../fixtures/identities.ts';
import { NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';

const PREFIX = 'X-Auth-Request-';
const LONGEST_PREFIX = `X-${'P'.repeat(MAX_PREFIX_LENGTH - 3)}-`;

/** Returns the headers by name without prefix. `Remove` is the removal list. */
function render(identity: Partial<Identity> | undefined, prefix = PREFIX): Record<string, string> {
  const flat = createIdentityHeaders(prefix)(identity && { ...MY_APP, ...identity });
  const names = flat.filter((_, at) => at % 2 === 0);
  const values = flat.filter((_, at) => at % 2 === 1);
  const short = names.map(name => (name === REMOVE_HEADER ? 'Remove' : name.slice(prefix.length)));
  return Object.fromEntries(short.map((name, at) => [name, values[at] ?? '']));
}

t.test('an identity is rendered as the headers of the contract', async t => {
  t.strictSame(render({}), {
    User: 'system:serviceaccount:default:my-app',
    Uid: '0f6e4c5e',
    Namespace: 'default',
    'Service-Account': 'my-app',
    Pod: 'my-app-1',
    'Pod-Uid': 'pod-uid',
    Node: 'worker-1',
    'Node-Uid': 'node-uid',
    'Credential-Id': 'JTI=1',
    Audiences: 'bindcar,other',
    Groups: 'system:serviceaccounts,system:serviceaccounts:default,system:authenticated',
    Truncated: '',
    Remove: 'X-Auth-Request-Truncated',
  });
});

t.test('every identity header is present exactly once, for any identity and prefix', async t => {
  t.strictSame([...IDENTITY_HEADERS].sort(), [...CONTRACT_HEADERS].sort());
  const big = { username: 'u'.repeat(9000), groups: Array.from({ length: 300 }, (_, at) => `group-${at}`) };
  for (const prefix of [PREFIX, LONGEST_PREFIX, 'X-']) {
    for (const identity of [undefined, MY_APP, EMPTY_IDENTITY, { ...MY_APP, ...big }]) {
      const names = createIdentityHeaders(prefix)(identity).filter((_, at) => at % 2 === 0);
      const expected = [...CONTRACT_HEADERS.map(name => prefix + name), REMOVE_HEADER].sort();
      t.strictSame(names.sort(), expected, prefix);
    }
  }
});

t.test('the removal list contains exactly the empty headers', async t => {
  t.equal(render(undefined).Remove, IDENTITY_HEADERS.map(name => PREFIX + name).join(','));
  t.equal(
    render({ serviceAccount: undefined, pod: '' }).Remove,
    'X-Auth-Request-Namespace,X-Auth-Request-Service-Account,X-Auth-Request-Pod,X-Auth-Request-Truncated',
  );
  const truncated = createIdentityHeaders(PREFIX)({ ...MY_APP, username: 'u'.repeat(9000) });
  t.equal(truncated.at(-1), 'X-Auth-Request-User', 'a header that is empty because it was truncated is removed too');
});

t.test('no removal list is sent if no header is empty', async t => {
  const { Remove, ...headers } = render({ groups: ['g', 'h'.repeat(9000)] });
  t.equal(Remove, undefined);
  t.notOk(Object.values(headers).includes(''));
});

t.test('without an identity all headers are present and empty', async t => {
  const { Remove, ...headers } = render(undefined);
  t.strictSame(headers, Object.fromEntries(IDENTITY_HEADERS.map(name => [name, ''])));
  t.strictSame(createIdentityHeaders(PREFIX)(undefined), createIdentityHeaders(PREFIX)(EMPTY_IDENTITY));
});

t.test('header values are printable ASCII without CR, LF and NUL', async t => {
  const nasty = 'a\r\nX-Admin: yes\0\x7fé\u2028😀';
  const headers = render({
    username: nasty,
    uid: nasty,
    groups: [nasty, nasty],
    serviceAccount: { namespace: nasty, name: nasty },
    pod: nasty,
    podUid: nasty,
    node: nasty,
    nodeUid: nasty,
    credentialId: nasty,
    audiences: [nasty],
  });
  for (const [name, value] of Object.entries(headers)) t.match(value, /^[\x20-\x7e]*$/, name);
  t.equal(headers.User, 'a%0D%0AX-Admin:%20yes%00%7F%C3%A9%E2%80%A8%F0%9F%98%80');
});

t.test('list items are encoded, so that a list header can be split', async t => {
  t.equal(render({ groups: ['a,b', 'c d', '50%', 'ü'] }).Groups, 'a%2Cb,c%20d,50%25,%C3%BC');
  t.equal(render({ audiences: ['a,b', 'c'] }).Audiences, 'a%2Cb,c');
});

t.test('two different identities never have the same headers', async t => {
  const random = seeded(7);
  const text = (): string => random.text(random.below(2) === 0 ? NASTY_PIECES : ['a', ',', ' ', '%2C', '%'], 3);
  const list = (): string[] => Array.from({ length: random.below(4) }, text).filter(item => item !== '');
  const identities = new Map<string, string>();
  const collisions: string[][] = [];
  for (let round = 0; round < 5000; round++) {
    // Few different values for each field, so that near-collisions occur.
    const identity = {
      ...EMPTY_IDENTITY,
      username: text(),
      uid: text(),
      groups: list(),
      audiences: list(),
      pod: text(),
    };
    const rendered = JSON.stringify(createIdentityHeaders(PREFIX)(identity));
    const plain = JSON.stringify(identity);
    if ((identities.get(rendered) ?? plain) !== plain) collisions.push([plain, identities.get(rendered) ?? '']);
    identities.set(rendered, plain);
  }
  t.strictSame(collisions, []);
  t.ok(identities.size > 2500);
});

t.test('a long list is truncated between items, and Truncated names it', async t => {
  const groups = Array.from({ length: 300 }, (_, at) => `team:${at}:with a space`);
  const { Groups = '', Truncated, User } = render({ groups });
  const decoded = Groups.split(',').map(decodeURIComponent);
  t.strictSame(decoded, groups.slice(0, decoded.length));
  t.ok(decoded.length > 50 && decoded.length < 300, `${decoded.length} of 300 fit`);
  t.equal(Truncated, 'Groups');
  t.equal(User, MY_APP.username, 'no other header is truncated');
});

t.test('a list has as many items as fit, and is not truncated if all fit', async t => {
  const headers = Object.entries(render({ groups: [] }, PREFIX)).filter(([name]) => name !== 'Remove');
  const left = maxValueBytes(PREFIX) - headers.reduce((sum, [, value]) => sum + value.length, 0);
  const fitting = render({ groups: ['g'.repeat(left - 2), 'h'] });
  t.equal(fitting.Groups, `${'g'.repeat(left - 2)},h`);
  t.equal(fitting.Truncated, '');
  const truncated = render({ groups: ['g'.repeat(left - 2), 'hh'] });
  t.equal(truncated.Groups, 'g'.repeat(left - 2));
  t.equal(truncated.Truncated, 'Groups');
});

t.test('a single value that does not fit is omitted, since a part of a name could name another user', async t => {
  const headers = render({ username: 'u'.repeat(5000), pod: 'p'.repeat(10_000), audiences: ['a'.repeat(5000)] });
  t.equal(headers.User, '');
  t.equal(headers.Pod, '');
  t.equal(headers.Audiences, '');
  t.equal(headers.Truncated, 'User,Pod,Audiences');
  t.equal(headers.Namespace, 'default');
});

t.test('an empty list item is omitted and counts as truncation, since it would look like an empty list', async t => {
  t.match(render({ groups: ['', 'a', '', 'b'] }), { Groups: 'a,b', Truncated: 'Groups' });
  t.match(render({ groups: [''] }), { Groups: '', Truncated: 'Groups' });
  t.match(render({ groups: [] }), { Groups: '', Truncated: '' });
});

t.test('with the longest prefix at least 2 KiB remain for values', async t => {
  t.ok(maxValueBytes(LONGEST_PREFIX) >= 2048);
});
