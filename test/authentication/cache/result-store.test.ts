import t from 'tap';
import type { CacheKey } from '../../../src/authentication/cache/cache-key.ts';
import { createResultStore, type EvictionCause } from '../../../src/authentication/cache/result-store.ts';
import { MAX_EXACT_COUNT } from '../../../src/limits/constants.ts';
import { fakeClock } from '../../fixtures/clock.ts';

interface Verdict {
  readonly of: string;
}

const key = (name: string): CacheKey => name as CacheKey;

function setUp(maxEntries = 10) {
  const clock = fakeClock();
  const evicted: EvictionCause[] = [];
  const store = createResultStore<Verdict>({ maxEntries, clock, onEviction: cause => evicted.push(cause) });
  return { clock, evicted, store };
}

t.test('a result is given back until its time is over, and not after', async t => {
  const { clock, store } = setUp();
  const verdict = { of: 'a' };
  store.set(key('a'), verdict, 10_000);
  t.equal(store.get(key('a')), verdict);
  clock.advance(9_999);
  t.equal(store.get(key('a')), verdict);
  clock.advance(2);
  t.equal(store.get(key('a')), undefined);
});

t.test('looking at a result does not lengthen its time', async t => {
  const { clock, store } = setUp();
  store.set(key('a'), { of: 'a' }, 100);
  for (let step = 0; step < 10; step++) {
    t.ok(store.get(key('a')));
    clock.advance(10);
  }
  clock.advance(1);
  t.notOk(store.get(key('a')));
});

t.test('each result has a time of its own', async t => {
  const { clock, store } = setUp();
  store.set(key('short'), { of: 'short' }, 10);
  store.set(key('long'), { of: 'long' }, Number.POSITIVE_INFINITY);
  clock.advance(1_000_000);
  t.notOk(store.get(key('short')));
  t.strictSame(store.get(key('long')), { of: 'long' });
});

t.test('a time that is not positive keeps nothing', async t => {
  const { store } = setUp();
  for (const ttlMs of [0, -1, Number.NEGATIVE_INFINITY, Number.NaN]) {
    store.set(key('a'), { of: 'a' }, ttlMs);
    t.equal(store.get(key('a')), undefined, String(ttlMs));
    t.equal(store.size, 0);
  }
});

t.test('a later result replaces an earlier one, with its own time', async t => {
  const { clock, evicted, store } = setUp();
  store.set(key('a'), { of: 'first' }, 1000);
  store.set(key('a'), { of: 'second' }, 10);
  t.strictSame(store.get(key('a')), { of: 'second' });
  t.equal(store.size, 1);
  t.strictSame(evicted, [], 'a replaced result made room for nobody');
  clock.advance(11);
  t.equal(store.get(key('a')), undefined);
});

t.test('a deleted result is gone, and counts as no eviction', async t => {
  const { evicted, store } = setUp();
  store.set(key('a'), { of: 'a' }, 1000);
  store.delete(key('a'));
  store.delete(key('never there'));
  t.equal(store.get(key('a')), undefined);
  t.equal(store.size, 0);
  t.strictSame(evicted, []);
});

t.test('a full store drops the result that was looked at longest ago, and tells of it', async t => {
  const { evicted, store } = setUp(3);
  for (const name of ['a', 'b', 'c']) store.set(key(name), { of: name }, 1000);
  store.get(key('a'));
  store.set(key('d'), { of: 'd' }, 1000);
  t.strictSame(
    ['a', 'b', 'c', 'd'].filter(name => store.get(key(name))),
    ['a', 'c', 'd'],
  );
  t.strictSame(evicted, ['capacity']);
});

t.test('the store never holds more than it may', async t => {
  const { evicted, store } = setUp(100);
  for (let at = 0; at < 5000; at++) store.set(key(String(at)), { of: String(at) }, 1000);
  t.equal(store.size, 100);
  t.equal(evicted.length, 4900);
});

t.test('a result whose time is over is dropped, and told of, when it is looked at', async t => {
  const { clock, evicted, store } = setUp();
  store.set(key('a'), { of: 'a' }, 10);
  clock.advance(11);
  t.strictSame(evicted, []);
  store.get(key('a'));
  store.get(key('a'));
  t.strictSame(evicted, ['expired']);
  t.equal(store.size, 0);
});

t.test('without a clock of the test’s the real one runs, and nobody needs to listen', async t => {
  const store = createResultStore<Verdict>({ maxEntries: 1 });
  store.set(key('a'), { of: 'a' }, 60_000);
  store.set(key('b'), { of: 'b' }, 60_000);
  t.equal(store.get(key('a')), undefined);
  t.strictSame(store.get(key('b')), { of: 'b' });
});

t.test('what had died before it made room does not say that the store is too small', async t => {
  const { clock, evicted, store } = setUp(2);
  store.set(key('dead'), { of: 'dead' }, 10);
  clock.advance(11);
  store.set(key('alive'), { of: 'alive' }, 1000);
  store.set(key('b'), { of: 'b' }, 1000);
  t.strictSame(evicted, ['expired']);
  store.set(key('c'), { of: 'c' }, 1000);
  t.strictSame(evicted, ['expired', 'capacity']);
});

t.test('the dead are not counted', async t => {
  const { clock, evicted, store } = setUp();
  store.set(key('a'), { of: 'a' }, 10);
  store.set(key('b'), { of: 'b' }, 1000);
  clock.advance(11);
  t.equal(store.size, 1);
  t.strictSame(evicted, ['expired']);
});

t.test('asking for the number of a great many looks at none of them', async t => {
  let looks = 0;
  const clock = fakeClock();
  const now = () => {
    looks += 1;
    return clock.now();
  };
  const store = createResultStore<Verdict>({ maxEntries: MAX_EXACT_COUNT + 1, clock: { now } });
  for (let entry = 0; entry < MAX_EXACT_COUNT; entry += 1) store.set(key(String(entry)), { of: 'many' }, 10);
  clock.advance(11);
  store.set(key('one more'), { of: 'one more' }, 10);
  looks = 0;
  t.equal(store.size, MAX_EXACT_COUNT + 1);
  t.equal(looks, 0);
  store.delete(key('one more'));
  t.equal(store.size, 0);
});
