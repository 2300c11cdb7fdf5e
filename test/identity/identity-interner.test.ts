import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import type { Identity } from '../../src/identity/identity.ts';
import { identityInterner } from '../../src/identity/identity-interner.ts';
import { MAX_INTERNED, MAX_INTERNED_LENGTH } from '../../src/limits/constants.ts';
import { MY_APP, NOBODY } from '../fixtures/identities.ts';
import { NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes per identity that interning leaves on the heap, with and without the identities. */
function heldBytes(count: number, make: (at: number) => Identity) {
  const heapUsed = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = heapUsed();
  const intern = identityInterner();
  let kept = Array.from({ length: count }, (_, at) => intern(make(at)));
  const all = heapUsed() - before;
  t.equal(kept.length, count);
  kept = [];
  const left = heapUsed() - before;
  t.equal(intern(MY_APP).username, MY_APP.username, 'the interner is alive');
  return { perIdentity: all / count, left: left / count };
}

/** A text of its own, as `JSON.parse` returns it. */
const fresh = (text: string): string => JSON.parse(JSON.stringify(text));

t.test('an interned identity equals the original, in any order and more than once', async t => {
  const intern = identityInterner();
  const random = seeded(16);
  const text = (): string => random.text(random.below(2) === 0 ? NASTY_PIECES : ['a', ',', '"', '","', '\\', '/'], 3);
  const list = (): string[] => Array.from({ length: random.below(4) }, text);
  const identities = Array.from({ length: 2000 }, (): Identity => {
    const serviceAccount = random.below(2) === 0 ? undefined : { namespace: text(), name: text() };
    return {
      ...{ username: text(), uid: text(), groups: list(), serviceAccount, pod: text(), podUid: text() },
      ...{ node: text(), nodeUid: text(), credentialId: text(), audiences: list() },
    };
  });
  for (const identity of [MY_APP, NOBODY, ...identities, ...identities.toReversed()]) {
    t.strictSame(intern(identity), identity);
  }
});

t.test('lists that differ only in where an item ends stay different', async t => {
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

t.test('an interned identity is frozen with all its parts, and the original is not changed', async t => {
  const original = structuredClone(MY_APP);
  const identity = identityInterner()(original);
  for (const part of [identity, identity.groups, identity.audiences, identity.serviceAccount]) {
    t.ok(Object.isFrozen(part));
  }
  for (const part of [original, original.groups, original.audiences, original.serviceAccount]) {
    t.notOk(Object.isFrozen(part));
  }
});

t.test('two tokens of one ServiceAccount share its lists and its name', async t => {
  const intern = identityInterner();
  const [one, other] = [intern(structuredClone(MY_APP)), intern({ ...structuredClone(MY_APP), pod: 'other' })];
  t.not(one, other);
  t.equal(one.groups, other.groups);
  t.equal(one.audiences, other.audiences);
  t.equal(one.serviceAccount, other.serviceAccount);
  t.strictSame([one.pod, other.pod], [MY_APP.pod, 'other']);
});

t.test('a value longer than the limit is not shared, and is not changed', async t => {
  const intern = identityInterner();
  const groups = (length: number) => ['g'.repeat(length - JSON.stringify(['']).length)];
  const shared = (length: number) => {
    const [one, other] = [groups(length), groups(length)].map(list => intern({ ...MY_APP, groups: list }));
    return one?.groups === other?.groups;
  };
  t.ok(shared(MAX_INTERNED_LENGTH));
  t.notOk(shared(MAX_INTERNED_LENGTH + 1));
  t.strictSame(intern({ ...MY_APP, groups: groups(9000) }).groups, groups(9000));
});

t.test('strings that tokens have in common are held once', async t => {
  const common = (length: number): Partial<Identity> => {
    const text = 'x'.repeat(length);
    return { username: fresh(text), uid: fresh(`u${text}`), node: fresh(`n${text}`), nodeUid: fresh(`i${text}`) };
  };
  const held = (length: number) => heldBytes(5000, () => ({ ...MY_APP, ...common(length) })).perIdentity;
  const [short, long] = [held(10), held(500)];
  t.ok(long - short < 100, `${short} and ${long} bytes each`);
});

t.test('the interner holds no more than its limit, and works on when it has been reached', async t => {
  const intern = identityInterner();
  const named = (at: number): Identity => ({ ...MY_APP, username: `user ${at}`, groups: [`group ${at}`] });
  const first = intern(named(0)).groups;
  const addUpTo = (end: number): void => {
    for (let at = 0; at < end; at += 1) if (intern(named(at)).groups[0] !== `group ${at}`) t.fail(`group ${at}`);
  };
  // The list of audiences counts as well.
  addUpTo(MAX_INTERNED - 1);
  t.equal(intern(named(0)).groups, first, 'all are shared below the limit');
  addUpTo(MAX_INTERNED + 1);
  t.not(intern(named(0)).groups, first, 'it has started over');
  t.strictSame(intern(named(0)), named(0));

  const count = 20 * MAX_INTERNED;
  const { left } = heldBytes(count, at => ({ ...MY_APP, username: `user ${at} ${'x'.repeat(200)}` }));
  t.ok(left < 40, `${left} bytes for each of ${count}, after they are gone`);
});
