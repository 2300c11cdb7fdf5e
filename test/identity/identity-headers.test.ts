import t from 'tap';
import type { Identity } from '../../src/identity/identity.ts';
import {
  createIdentityHeaders,
  IDENTITY_HEADERS,
  MAX_PREFIX_LENGTH,
  maxValueBytes,
  REMOVE_HEADER,
} from '../../src/identity/identity-headers.ts';
import { MY_APP, NOBODY } from '../fixtures/identities.ts';
import { NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';

const PREFIX = 'X-Auth-Request-';
const LONGEST_PREFIX = `X-${'P'.repeat(MAX_PREFIX_LENGTH - 3)}-`;

const NAMES = [
  ...['User', 'Uid', 'Groups', 'Namespace', 'Service-Account', 'Pod', 'Pod-Uid', 'Node', 'Node-Uid'],
  ...['Credential-Id', 'Audiences', 'Truncated'],
];

/** Headers by their short names; `Remove` holds the removal list's. */
function render(identity: Partial<Identity> | undefined, prefix = PREFIX): Record<string, string> {
  const flat = createIdentityHeaders(prefix)(identity && { ...MY_APP, ...identity });
  const names = flat.filter((_, at) => at % 2 === 0);
  const values = flat.filter((_, at) => at % 2 === 1);
  const short = names.map(name => (name === REMOVE_HEADER ? 'Remove' : name.slice(prefix.length)));
  return Object.fromEntries(short.map((name, at) => [name, values[at] ?? '']));
}

t.test('an identity becomes the headers of the contract', async t => {
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

t.test('every header is there exactly once, whoever it is and whatever the prefix', async t => {
  t.strictSame([...IDENTITY_HEADERS].sort(), [...NAMES].sort());
  const big = { username: 'u'.repeat(9000), groups: Array.from({ length: 300 }, (_, at) => `group-${at}`) };
  for (const prefix of [PREFIX, LONGEST_PREFIX, 'X-']) {
    for (const identity of [undefined, MY_APP, NOBODY, { ...MY_APP, ...big }]) {
      const names = createIdentityHeaders(prefix)(identity).filter((_, at) => at % 2 === 0);
      const expected = [...NAMES.map(name => prefix + name), REMOVE_HEADER].sort();
      t.strictSame(names.sort(), expected, prefix);
    }
  }
});

t.test('the removal list names exactly the empty headers', async t => {
  t.equal(render(undefined).Remove, IDENTITY_HEADERS.map(name => PREFIX + name).join(','));
  t.equal(
    render({ serviceAccount: undefined, pod: '' }).Remove,
    'X-Auth-Request-Namespace,X-Auth-Request-Service-Account,X-Auth-Request-Pod,X-Auth-Request-Truncated',
  );
  const full = createIdentityHeaders(PREFIX)({ ...MY_APP, username: 'u'.repeat(9000) });
  t.equal(full.at(-1), 'X-Auth-Request-User', 'a header that is empty because it was cut is removed too');
});

t.test('no removal list is sent when nothing is empty', async t => {
  const { Remove, ...headers } = render({ groups: ['g', 'h'.repeat(9000)] });
  t.equal(Remove, undefined);
  t.notOk(Object.values(headers).includes(''));
});

t.test('nobody is all headers, all empty', async t => {
  const { Remove, ...headers } = render(undefined);
  t.strictSame(headers, Object.fromEntries(IDENTITY_HEADERS.map(name => [name, ''])));
  t.strictSame(createIdentityHeaders(PREFIX)(undefined), createIdentityHeaders(PREFIX)(NOBODY));
});

t.test('no value holds a CR, LF, NUL or anything that is no printable ASCII', async t => {
  const nasty = 'a\r\nX-Admin: yes\0\x7fé\u2028😀';
  const headers = render({
    ...{ username: nasty, uid: nasty, groups: [nasty, nasty], serviceAccount: { namespace: nasty, name: nasty } },
    ...{ pod: nasty, podUid: nasty, node: nasty, nodeUid: nasty, credentialId: nasty, audiences: [nasty] },
  });
  for (const [name, value] of Object.entries(headers)) t.match(value, /^[\x20-\x7e]*$/, name);
  t.equal(headers.User, 'a%0D%0AX-Admin:%20yes%00%7F%C3%A9%E2%80%A8%F0%9F%98%80');
});

t.test('items are encoded so that a list can be taken apart again', async t => {
  t.equal(render({ groups: ['a,b', 'c d', '50%', 'ü'] }).Groups, 'a%2Cb,c%20d,50%25,%C3%BC');
  t.equal(render({ audiences: ['a,b', 'c'] }).Audiences, 'a%2Cb,c');
});

t.test('two identities never look alike', async t => {
  const random = seeded(7);
  const text = (): string => random.text(random.below(2) === 0 ? NASTY_PIECES : ['a', ',', ' ', '%2C', '%'], 3);
  const list = (): string[] => Array.from({ length: random.below(4) }, text).filter(item => item !== '');
  const seen = new Map<string, string>();
  const alike: string[][] = [];
  for (let round = 0; round < 5000; round++) {
    // Few choices for each, so that near misses are met.
    const identity = { ...NOBODY, username: text(), uid: text(), groups: list(), audiences: list(), pod: text() };
    const rendered = JSON.stringify(createIdentityHeaders(PREFIX)(identity));
    const plain = JSON.stringify(identity);
    if ((seen.get(rendered) ?? plain) !== plain) alike.push([plain, seen.get(rendered) ?? '']);
    seen.set(rendered, plain);
  }
  t.strictSame(alike, []);
  t.ok(seen.size > 2500);
});

t.test('a list is cut between items, and Truncated names it', async t => {
  const groups = Array.from({ length: 300 }, (_, at) => `team:${at}:with a space`);
  const { Groups = '', Truncated, User } = render({ groups });
  const decoded = Groups.split(',').map(decodeURIComponent);
  t.strictSame(decoded, groups.slice(0, decoded.length));
  t.ok(decoded.length > 50 && decoded.length < 300, `${decoded.length} of 300 fit`);
  t.equal(Truncated, 'Groups');
  t.equal(User, MY_APP.username, 'nothing else had to give way');
});

t.test('a list takes as many items as fit and is whole when all do', async t => {
  const taken = Object.entries(render({ groups: [] }, PREFIX)).filter(([name]) => name !== 'Remove');
  const left = maxValueBytes(PREFIX) - taken.reduce((sum, [, value]) => sum + value.length, 0);
  const whole = render({ groups: ['g'.repeat(left - 2), 'h'] });
  t.equal(whole.Groups, `${'g'.repeat(left - 2)},h`);
  t.equal(whole.Truncated, '');
  const cut = render({ groups: ['g'.repeat(left - 2), 'hh'] });
  t.equal(cut.Groups, 'g'.repeat(left - 2));
  t.equal(cut.Truncated, 'Groups');
});

t.test('a single value that does not fit is left out whole, since half a name could name another user', async t => {
  const headers = render({ username: 'u'.repeat(5000), pod: 'p'.repeat(10_000), audiences: ['a'.repeat(5000)] });
  t.equal(headers.User, '');
  t.equal(headers.Pod, '');
  t.equal(headers.Audiences, '');
  t.equal(headers.Truncated, 'User,Pod,Audiences');
  t.equal(headers.Namespace, 'default');
});

t.test('an empty item is left out, for it could not be told from none, and that counts as a cut', async t => {
  t.match(render({ groups: ['', 'a', '', 'b'] }), { Groups: 'a,b', Truncated: 'Groups' });
  t.match(render({ groups: [''] }), { Groups: '', Truncated: 'Groups' });
  t.match(render({ groups: [] }), { Groups: '', Truncated: '' });
});

t.test('with the longest prefix there are still 2 KiB for values', async t => {
  t.ok(maxValueBytes(LONGEST_PREFIX) >= 2048);
});
