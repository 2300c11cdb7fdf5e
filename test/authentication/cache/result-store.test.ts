import t from 'tap';
import type { CacheKey } from '../../../src/authentication/cache/cache-key.ts';
import { createResultStore, type EvictionCause } from '../../../src/authentication/cache/result-store.ts';
import { MAX_EXACT_COUNT } from '../../../src/limits/constants.ts';
import { fakeClock } from '../../fixtures/clock.ts';

interface StoredResult {
  readonly of: string;
}

const key = (name: string): CacheKey => name as CacheKey;

function setUp(maxEntries = 10) {
  const clock = fakeClock();
  const evicted: EvictionCause[] = [];
  const store = createResultStore<StoredResult>({ maxEntries, clock, onEviction: cause => evicted.push(cause) });
  return { clock, evicted, store };
}

t.test('a stored result is returned until its TTL ends, and not after', async t => {
  const { clock, store } = setUp();
  const result = { of: 'a' };
  store.set(key('a'), result, 10_000);
  t.equal(store.get(key('a')), result);
  clock.advance(9_999);
  t.equal(store.get(key('a')), result);
  clock.advance(2);
  t.equal(store.get(key('a')), undefined);
});

t.test('reading a stored result does not extend its TTL', async t => {
  const { clock, store } = setUp();
  store.set(key('a'), { of: 'a' }, 100);
  for (let step = 0; step < 10; step++) {
    t.ok(store.get(key('a')));
    clock.advance(10);
  }
  clock.advance(1);
  t.notOk(store.get(key('a')));
});

t.test('each stored result has its own TTL', async t => {
  const { clock, store } = setUp();
  store.set(key('short'), { of: 'short' }, 10);
  store.set(key('long'), { of: 'long' }, Number.POSITIVE_INFINITY);
  clock.advance(1_000_000);
  t.notOk(store.get(key('short')));
  t.strictSame(store.get(key('long')), { of: 'long' });
});

t.test('a result with a TTL that is not positive is not stored', async t => {
  const { store } = setUp();
  for (const ttlMs of [0, -1, Number.NEGATIVE_INFINITY, Number.NaN]) {
    store.set(key('a'), { of: 'a' }, ttlMs);
    t.equal(store.get(key('a')), undefined, String(ttlMs));
    t.equal(store.size, 0);
  }
});

t.test('a later result replaces the stored one and its TTL', async t => {
  const { clock, evicted, store } = setUp();
  store.set(key('a'), { of: 'first' }, 1000);
  store.set(key('a'), { of: 'second' }, 10);
  t.strictSame(store.get(key('a')), { of: 'second' });
  t.equal(store.size, 1);
  t.strictSame(evicted, [], 'a replacement is not an eviction');
  clock.advance(11);
  t.equal(store.get(key('a')), undefined);
});

t.test('a deleted result is removed and not counted as an eviction', async t => {
  const { evicted, store } = setUp();
  store.set(key('a'), { of: 'a' }, 1000);
  store.delete(key('a'));
  store.delete(key('absent'));
  t.equal(store.get(key('a')), undefined);
  t.equal(store.size, 0);
  t.strictSame(evicted, []);
});

t.test('a full store evicts the least recently used result and reports it', async t => {
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

t.test('the store never holds more than maxEntries results', async t => {
  const { evicted, store } = setUp(100);
  for (let at = 0; at < 5000; at++) store.set(key(String(at)), { of: String(at) }, 1000);
  t.equal(store.size, 100);
  t.equal(evicted.length, 4900);
});

t.test('an expired result is evicted and reported when it is read', async t => {
  const { clock, evicted, store } = setUp();
  store.set(key('a'), { of: 'a' }, 10);
  clock.advance(11);
  t.strictSame(evicted, []);
  store.get(key('a'));
  store.get(key('a'));
  t.strictSame(evicted, ['expired']);
  t.equal(store.size, 0);
});

t.test('the result store uses the real clock by default and works without onEviction', async t => {
  const store = createResultStore<StoredResult>({ maxEntries: 1 });
  store.set(key('a'), { of: 'a' }, 60_000);
  store.set(key('b'), { of: 'b' }, 60_000);
  t.equal(store.get(key('a')), undefined);
  t.strictSame(store.get(key('b')), { of: 'b' });
});

t.test('evicting an expired result is reported as expired, not as capacity', async t => {
  const { clock, evicted, store } = setUp(2);
  store.set(key('expired'), { of: 'expired' }, 10);
  clock.advance(11);
  store.set(key('live'), { of: 'live' }, 1000);
  store.set(key('b'), { of: 'b' }, 1000);
  t.strictSame(evicted, ['expired']);
  store.set(key('c'), { of: 'c' }, 1000);
  t.strictSame(evicted, ['expired', 'capacity']);
});

t.test('expired results are not counted in the size', async t => {
  const { clock, evicted, store } = setUp();
  store.set(key('a'), { of: 'a' }, 10);
  store.set(key('b'), { of: 'b' }, 1000);
  clock.advance(11);
  t.equal(store.size, 1);
  t.strictSame(evicted, ['expired']);
});

t.test('the size of a store over MAX_EXACT_COUNT is returned without a check for expired results', async t => {
  let clockReads = 0;
  const clock = fakeClock();
  const now = () => {
    clockReads += 1;
    return clock.now();
  };
  const store = createResultStore<StoredResult>({ maxEntries: MAX_EXACT_COUNT + 1, clock: { now } });
  for (let entry = 0; entry < MAX_EXACT_COUNT; entry += 1) store.set(key(String(entry)), { of: 'many' }, 10);
  clock.advance(11);
  store.set(key('last'), { of: 'last' }, 10);
  clockReads = 0;
  t.equal(store.size, MAX_EXACT_COUNT + 1);
  t.equal(clockReads, 0);
  store.delete(key('last'));
  t.equal(store.size, 0);
});
