import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import type { Identity } from '../../src/identity/identity.ts';
import { identityInterner } from '../../src/identity/identity-interner.ts';
import { MAX_INTERNED, MAX_INTERNED_LENGTH } from '../../src/limits/constants.ts';
import { EMPTY_IDENTITY, MY_APP } from '../fixtures/identities.ts';
import { NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Returns heap bytes per identity: while the interned identities exist, and after. */
function heapPerIdentity(count: number, create: (at: number) => Identity) {
  const heapUsed = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = heapUsed();
  const intern = identityInterner();
  let interned = Array.from({ length: count }, (_, at) => intern(create(at)));
  const during = heapUsed() - before;
  t.equal(interned.length, count);
  interned = [];
  const after = heapUsed() - before;
  t.equal(intern(MY_APP).username, MY_APP.username, 'the interner has not been collected');
  return { during: during / count, after: after / count };
}

/** Returns a new string, as `JSON.parse` does. */
const fresh = (text: string): string => JSON.parse(JSON.stringify(text));

t.test('an interned identity equals the original, in any order and if repeated', async t => {
  const intern = identityInterner();
  const random = seeded(16);
  const text = (): string => random.text(random.below(2) === 0 ? NASTY_PIECES : ['a', ',', '"', '","', '\\', '/'], 3);
  const list = (): string[] => Array.from({ length: random.below(4) }, text);
  const identities = Array.from({ length: 2000 }, (): Identity => {
    const serviceAccount = random.below(2) === 0 ? undefined : { namespace: text(), name: text() };
    return {
      username: text(),
      uid: text(),
      groups: list(),
      serviceAccount,
      pod: text(),
      podUid: text(),
      node: text(),
      nodeUid: text(),
      credentialId: text(),
      audiences: list(),
    };
  });
  for (const identity of [MY_APP, EMPTY_IDENTITY, ...identities, ...identities.toReversed()]) {
    t.strictSame(intern(identity), identity);
  }
});

t.test('interned lists that differ only in item boundaries stay different', async t => {
  const intern = identityInterner();
  for (const groups of [['a,b'], ['a', 'b'], ['a","b'], ['a', '', 'b'], ['a,', 'b'], [], ['']]) {
    t.strictSame(intern({ ...MY_APP, groups }).groups, groups);
  }
  for (const [namespace, name] of [
    ['a', 'b/c'],
    ['a/b', 'c'],
    ['a","b', 'c'],
  ] as const) {
    const serviceAccount = { namespace, name };
    t.strictSame(intern({ ...MY_APP, serviceAccount }).serviceAccount, serviceAccount);
  }
});

t.test('an interned identity is deeply frozen, and the original is not changed', async t => {
  const original = structuredClone(MY_APP);
  const identity = identityInterner()(original);
  for (const part of [identity, identity.groups, identity.audiences, identity.serviceAccount]) {
    t.ok(Object.isFrozen(part));
  }
  for (const part of [original, original.groups, original.audiences, original.serviceAccount]) {
    t.notOk(Object.isFrozen(part));
  }
});

t.test('interned identities of one ServiceAccount share its lists and its name', async t => {
  const intern = identityInterner();
  const [first, second] = [intern(structuredClone(MY_APP)), intern({ ...structuredClone(MY_APP), pod: 'other' })];
  t.not(first, second);
  t.equal(first.groups, second.groups);
  t.equal(first.audiences, second.audiences);
  t.equal(first.serviceAccount, second.serviceAccount);
  t.strictSame([first.pod, second.pod], [MY_APP.pod, 'other']);
});

t.test('a value longer than the interning limit is neither shared nor changed', async t => {
  const intern = identityInterner();
  const groups = (length: number) => ['g'.repeat(length - JSON.stringify(['']).length)];
  const shared = (length: number) => {
    const [first, second] = [groups(length), groups(length)].map(list => intern({ ...MY_APP, groups: list }));
    return first?.groups === second?.groups;
  };
  t.ok(shared(MAX_INTERNED_LENGTH));
  t.notOk(shared(MAX_INTERNED_LENGTH + 1));
  t.strictSame(intern({ ...MY_APP, groups: groups(9000) }).groups, groups(9000));
});

t.test('strings that interned identities have in common are stored once', async t => {
  const common = (length: number): Partial<Identity> => {
    const text = 'x'.repeat(length);
    return { username: fresh(text), uid: fresh(`u${text}`), node: fresh(`n${text}`), nodeUid: fresh(`i${text}`) };
  };
  const heapFor = (length: number) => heapPerIdentity(5000, () => ({ ...MY_APP, ...common(length) })).during;
  const [short, long] = [heapFor(10), heapFor(500)];
  t.ok(long - short < 100, `${short} and ${long} bytes each`);
});

t.test('the interner stores at most MAX_INTERNED values and starts over when it is full', async t => {
  const intern = identityInterner();
  const named = (at: number): Identity => ({ ...MY_APP, username: `user ${at}`, groups: [`group ${at}`] });
  const first = intern(named(0)).groups;
  const addUpTo = (end: number): void => {
    for (let at = 0; at < end; at += 1) if (intern(named(at)).groups[0] !== `group ${at}`) t.fail(`group ${at}`);
  };
  // The list of audiences counts as a value too.
  addUpTo(MAX_INTERNED - 1);
  t.equal(intern(named(0)).groups, first, 'all values are shared below the limit');
  addUpTo(MAX_INTERNED + 1);
  t.not(intern(named(0)).groups, first, 'the interner started over');
  t.strictSame(intern(named(0)), named(0));

  const count = 20 * MAX_INTERNED;
  const { after } = heapPerIdentity(count, at => ({ ...MY_APP, username: `user ${at} ${'x'.repeat(200)}` }));
  t.ok(after < 40, `${after} bytes for each of ${count} identities that no longer exist`);
});
