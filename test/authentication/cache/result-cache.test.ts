import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { createCacheKeyFn } from '../../../src/authentication/cache/cache-key.ts';
import type { CachedResult } from '../../../src/authentication/cache/cached-result.ts';
import {
  type LookupResult,
  type ResultCacheOptions,
  withResultCache,
} from '../../../src/authentication/cache/result-cache.ts';
import { createResultStore } from '../../../src/authentication/cache/result-store.ts';
import {
  type Authenticated,
  type AuthResult,
  type Rejected,
  type RequestTrace,
  unavailable,
} from '../../../src/authentication/token-authenticator.ts';
import { Token } from '../../../src/credential/token.ts';
import type { Identity } from '../../../src/identity/identity.ts';
import { Budget } from '../../../src/limits/budget.ts';
import { authenticatedAs } from '../../fixtures/authenticated-result.ts';
import { fakeClock } from '../../fixtures/clock.ts';
import { MY_APP } from '../../fixtures/identities.ts';
import { stubAuthenticator } from '../../fixtures/stub-authenticator.ts';
import { unsignedJwt } from '../../fixtures/unsigned-jwt.ts';

const token = new Token('a-token');
const authenticated = authenticatedAs();
const rejected: Rejected = { kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' };
const outage = unavailable('server_error');

const key = createCacheKeyFn(['bindcar']);

/** The wall-clock time when the fake clock is 0. */
const EPOCH = Date.parse('2025-06-01T12:00:00Z');

/** Returns `result` as the cache stores it, with an infinite TTL. */
const asCached = (result: Authenticated): CachedResult => {
  const never = Number.POSITIVE_INFINITY;
  return { ...result, freshUntil: never, refreshAfter: never, expiresAt: undefined, refreshing: false };
};

/**
 * Returns `authenticated` if `result` is a fresh result with the same identity, so that a test can
 * compare by reference. Returns anything else unchanged.
 */
function normalize<T>(result: T): T | Authenticated {
  const { kind, identity, staleForMs } = Object(result) as Partial<Authenticated>;
  return kind === 'authenticated' && isDeepStrictEqual(identity, authenticated.identity) && staleForMs === undefined
    ? authenticated
    : result;
}

function cache(answer?: (token: Token) => AuthResult | Promise<AuthResult>, options: Partial<ResultCacheOptions> = {}) {
  const clock = fakeClock();
  const inner = stubAuthenticator(answer);
  const lookups: LookupResult[] = [];
  const authenticatedStore = createResultStore<CachedResult>({ maxEntries: 100, clock });
  const rejectedStore = createResultStore<Rejected>({ maxEntries: 100, clock });
  const authenticator = withResultCache(inner, {
    key,
    authenticatedStore,
    rejectedStore,
    ttlMs: 10_000,
    negativeTtlMs: 2000,
    cacheStaleIfErrorMs: 0,
    cacheRefreshAhead: false,
    reviewTimeoutMs: 60_000,
    onLookup: result => lookups.push(result),
    now: clock.now,
    wallClock: () => EPOCH + clock.now(),
    ...options,
  });
  return { authenticator, inner, clock, lookups, authenticatedStore, rejectedStore };
}

t.test('1,000 requests with one token cause one review', async t => {
  const { authenticator, inner, lookups } = cache(() => authenticated);
  const results = new Set<AuthResult>();
  for (let request = 0; request < 1000; request += 1) results.add(await authenticator.authenticate(token));
  t.strictSame([...results].map(normalize), [authenticated]);
  t.equal(inner.reviews.length, 1);
  t.equal(lookups.filter(result => result === 'miss').length, 1);
  t.equal(lookups.filter(result => result === 'hit_positive').length, 999);
});

t.test('a cached ServiceAccount result equals the reviewed one, and all callers get the same object', async t => {
  const reviewed: Authenticated = { kind: 'authenticated', identity: MY_APP };
  const { authenticator } = cache(() => reviewed);
  const result = authenticator.authenticate(token) as Authenticated;
  t.equal(result.kind, 'authenticated');
  const { identity } = result;
  for (const [field, value] of Object.entries(MY_APP)) t.strictSame(identity[field as keyof Identity], value, field);
  t.equal(authenticator.authenticate(token), result);
  t.equal(authenticator.getCached(token), result);
});

t.test('256 simultaneous requests with an uncached token share one review', async t => {
  const { authenticator, inner, lookups } = cache();
  const requests = Array.from({ length: 256 }, () => authenticator.authenticate(token));
  t.equal(inner.reviews.length, 1);
  inner.reviews[0]?.answer(authenticated);
  t.ok((await Promise.all(requests)).every(result => normalize(result) === authenticated));
  t.equal(lookups.filter(result => result === 'coalesced').length, 255);
});

t.test('each token has its own review', async t => {
  const { authenticator, inner } = cache(reviewed => (reviewed === token ? authenticated : rejected));
  t.equal(normalize(await authenticator.authenticate(token)), authenticated);
  t.equal(await authenticator.authenticate(new Token('a-tokem')), rejected);
  t.equal(inner.reviews.length, 2);
});

t.test('a cached result is returned synchronously', async t => {
  const { authenticator } = cache(() => authenticated);
  await authenticator.authenticate(token);
  t.equal(normalize(authenticator.authenticate(token)), authenticated);
});

t.test('a synchronous result is returned synchronously and cached like a reviewed one', async t => {
  for (const [result, second] of [
    [rejected, 'hit_negative'],
    [authenticated, 'hit_positive'],
    [outage, 'miss'],
  ] as const) {
    const { authenticator, lookups } = cache(() => result);
    t.equal(normalize(authenticator.authenticate(token)), result);
    t.equal(normalize(authenticator.authenticate(token)), result);
    t.strictSame(lookups, ['miss', second]);
  }
});

t.test('a stored identity equals the one that the review returned, and is frozen', async t => {
  const identity = MY_APP;
  const { authenticator } = cache(() => ({ kind: 'authenticated', identity }));
  await authenticator.authenticate(token);
  const result = authenticator.authenticate(token) as Authenticated;
  t.equal(result.kind, 'authenticated');
  t.strictSame(result.identity, identity);
  t.ok(Object.isFrozen(result.identity));
});

t.test('an allow is reviewed again after its TTL', async t => {
  const { authenticator, inner, clock } = cache(() => authenticated);
  await authenticator.authenticate(token);
  clock.advance(10_000);
  await authenticator.authenticate(token);
  t.equal(inner.reviews.length, 1);
  clock.advance(1);
  await authenticator.authenticate(token);
  t.equal(inner.reviews.length, 2);
});

t.test('a rejection has its own TTL', async t => {
  const { authenticator, inner, clock, lookups } = cache(() => rejected);
  await authenticator.authenticate(token);
  clock.advance(2000);
  t.equal(authenticator.authenticate(token), rejected);
  clock.advance(1);
  await authenticator.authenticate(token);
  t.equal(inner.reviews.length, 2);
  t.strictSame(lookups, ['miss', 'hit_negative', 'miss']);
});

t.test('an allow is never cached past the token’s expiry', async t => {
  const { authenticator, inner, clock } = cache(() => authenticated);
  const shortLived = unsignedJwt({ exp: EPOCH / 1000 + 4 });
  await authenticator.authenticate(shortLived);
  clock.advance(3998);
  t.equal(normalize(authenticator.authenticate(shortLived)), authenticated);
  clock.advance(1);
  await authenticator.authenticate(shortLived);
  t.equal(inner.reviews.length, 2);
});

t.test('a token that expires after the TTL is reviewed again after the TTL', async t => {
  const { authenticator, inner, clock } = cache(() => authenticated);
  const longLived = unsignedJwt({ exp: EPOCH / 1000 + 365 * 86_400 });
  await authenticator.authenticate(longLived);
  clock.advance(10_001);
  await authenticator.authenticate(longLived);
  t.equal(inner.reviews.length, 2);
});

t.test('an expired token that the API server still accepts is not cached', async t => {
  const { authenticator, inner, authenticatedStore } = cache(() => authenticated);
  for (const exp of [EPOCH / 1000 - 30, EPOCH / 1000]) {
    const expired = unsignedJwt({ exp });
    t.equal(normalize(await authenticator.authenticate(expired)), authenticated);
    t.equal(normalize(await authenticator.authenticate(expired)), authenticated);
  }
  t.equal(inner.reviews.length, 4);
  t.equal(authenticatedStore.size, 0);
});

t.test('a token’s expiry is checked by the wall clock, even after the machine was suspended', async t => {
  const results = [authenticated, outage];
  let suspendedMs = 0;
  let down = false;
  const { authenticator, inner, clock, authenticatedStore } = cache(() => results.shift() ?? outage, {
    cacheStaleIfErrorMs: 3_600_000,
    wallClock: () => EPOCH + clock.now() + suspendedMs,
    apiServerDown: () => down,
  });
  const ending = unsignedJwt({ exp: EPOCH / 1000 + 600 });
  t.equal(normalize(await authenticator.authenticate(ending)), authenticated);
  clock.advance(20_000);
  down = true;
  t.match(authenticator.authenticate(ending), { staleForMs: 10_000 });
  suspendedMs = 600_000;
  t.equal(authenticatedStore.size, 1, 'the store still holds the result');
  t.equal(authenticator.getCached(ending), undefined);
  t.equal(await authenticator.authenticate(ending), outage, 'an expired token is not served stale');
  t.equal(inner.reviews.length, 2);
});

t.test('a fractional exp is exact, and a huge or non-numeric exp does not shorten the TTL', async t => {
  const { authenticator, inner, clock } = cache(() => authenticated);
  const fraction = unsignedJwt({ exp: EPOCH / 1000 + 1.5 });
  const absurd = unsignedJwt({ exp: Number.MAX_SAFE_INTEGER });
  const text = unsignedJwt({ exp: 'tomorrow' });
  for (const expiring of [fraction, absurd, text]) await authenticator.authenticate(expiring);
  clock.advance(1400);
  for (const expiring of [fraction, absurd, text])
    t.equal(normalize(authenticator.authenticate(expiring)), authenticated);
  clock.advance(200);
  await authenticator.authenticate(fraction);
  t.equal(inner.reviews.length, 4);
});

t.test('a token’s expiry is compared with the real time by default', async t => {
  const inner = stubAuthenticator(() => authenticated);
  const stores = {
    authenticatedStore: createResultStore<CachedResult>({ maxEntries: 9 }),
    rejectedStore: createResultStore<Rejected>({ maxEntries: 9 }),
  };
  const times = {
    ttlMs: 600_000,
    negativeTtlMs: 2000,
    cacheStaleIfErrorMs: 0,
    cacheRefreshAhead: true,
    reviewTimeoutMs: 3000,
  };
  const authenticator = withResultCache(inner, { key: createCacheKeyFn([]), ...stores, ...times });
  const expired = unsignedJwt({ exp: Date.now() / 1000 - 1 });
  const fresh = unsignedJwt({ exp: Date.now() / 1000 + 3600 });
  for (const presented of [expired, expired, fresh, fresh]) await authenticator.authenticate(presented);
  t.equal(inner.reviews.length, 3);
});

t.test('a local rejection is cached until its keepUntil, and at most for the negative TTL', async t => {
  for (const [keepUntil, cachedMs] of [
    [501, 500],
    [9001, 2000],
    [1, 0],
    [undefined, 2000],
  ] as const) {
    const local: Rejected = { ...rejected, ...(keepUntil !== undefined && { keepUntil }) };
    const { authenticator, inner, clock } = cache(() => local);
    await authenticator.authenticate(token);
    clock.advance(cachedMs);
    if (cachedMs > 0) t.equal(authenticator.authenticate(token), local, `${keepUntil}`);
    clock.advance(1);
    await authenticator.authenticate(token);
    t.equal(inner.reviews.length, 2, `${keepUntil}`);
  }
});

t.test('with a TTL of 0 nothing is cached, and simultaneous requests still share a review', async t => {
  for (const result of [authenticated, rejected]) {
    const { authenticator, inner, authenticatedStore, rejectedStore } = cache(undefined, {
      ttlMs: 0,
      negativeTtlMs: 0,
    });
    for (let round = 0; round < 3; round += 1) {
      const requests = [authenticator.authenticate(token), authenticator.authenticate(token)];
      inner.reviews[round]?.answer(result);
      t.strictSame(await Promise.all(requests), [result, result]);
    }
    t.equal(inner.reviews.length, 3);
    t.equal(authenticatedStore.size + rejectedStore.size, 0);
  }
});

t.test('one TTL may be 0 while the other result kind is cached', async t => {
  const onlyAllows = cache(reviewed => (reviewed === token ? authenticated : rejected), { negativeTtlMs: 0 });
  const onlyRejections = cache(reviewed => (reviewed === token ? authenticated : rejected), { ttlMs: 0 });
  const bad = new Token('bad');
  for (const { authenticator } of [onlyAllows, onlyRejections])
    for (const presented of [token, token, bad, bad]) await authenticator.authenticate(presented);
  t.strictSame(
    onlyAllows.inner.reviews.map(review => review.token),
    [token, bad, bad],
  );
  t.strictSame(
    onlyRejections.inner.reviews.map(review => review.token),
    [token, token, bad],
  );
});

t.test('an outage is returned to all waiting requests and is never cached', async t => {
  const { authenticator, inner, authenticatedStore, rejectedStore } = cache();
  const requests = [authenticator.authenticate(token), authenticator.authenticate(token)];
  inner.reviews[0]?.answer(outage);
  t.strictSame(await Promise.all(requests), [outage, outage]);
  t.equal(authenticatedStore.size + rejectedStore.size, 0);

  const next = authenticator.authenticate(token);
  inner.reviews[1]?.answer(authenticated);
  t.equal(normalize(await next), authenticated);
});

t.test('a rejection replaces a cached allow, and an allow a cached rejection', async t => {
  let result: AuthResult = authenticated;
  const { authenticator, clock, authenticatedStore, rejectedStore } = cache(() => result, {
    ttlMs: 1000,
    negativeTtlMs: 1000,
  });
  await authenticator.authenticate(token);
  t.match([authenticatedStore.size, rejectedStore.size], [1, 0]);
  for (const next of [rejected, authenticated, rejected]) {
    result = next;
    clock.advance(1001);
    t.equal(normalize(await authenticator.authenticate(token)), next);
    t.equal(normalize(authenticator.authenticate(token)), next);
    t.match([authenticatedStore.size, rejectedStore.size], next === authenticated ? [1, 0] : [0, 1]);
  }
});

t.test('a review’s result replaces a result that was stored during the review', async t => {
  for (const [stored, result] of [
    [authenticated, rejected],
    [rejected, authenticated],
  ] as const) {
    const { authenticator, inner, authenticatedStore, rejectedStore } = cache();
    const review = authenticator.authenticate(token);
    if (stored === authenticated) authenticatedStore.set(key(token), asCached(authenticated), 60_000);
    else rejectedStore.set(key(token), rejected, 60_000);
    inner.reviews[0]?.answer(result);
    await review;
    t.equal(normalize(authenticator.authenticate(token)), result);
    t.equal(authenticatedStore.size + rejectedStore.size, 1);
  }
});

t.test('a rejection removes the cached allow even if rejections are not cached', async t => {
  const { authenticator, inner, authenticatedStore } = cache(undefined, { negativeTtlMs: 0 });
  const review = authenticator.authenticate(token);
  authenticatedStore.set(key(token), asCached(authenticated), 60_000);
  inner.reviews[0]?.answer(rejected);
  await review;
  t.equal(authenticatedStore.size, 0);
});

t.test('an outage does not remove a cached result', async t => {
  const { authenticator, inner, authenticatedStore } = cache();
  const review = authenticator.authenticate(token);
  authenticatedStore.set(key(token), asCached(authenticated), 60_000);
  inner.reviews[0]?.answer(outage);
  await review;
  t.equal(normalize(authenticator.authenticate(token)), authenticated);
});

t.test('a review past its deadline is a timeout for all its requests, and its late result is not cached', async t => {
  const { authenticator, inner, authenticatedStore, rejectedStore } = cache(undefined, { reviewTimeoutMs: 50 });
  const requests = [authenticator.authenticate(token), authenticator.authenticate(token)];
  t.strictSame(await Promise.all(requests), [unavailable('timeout'), unavailable('timeout')]);
  t.equal(inner.reviews[0]?.signal?.aborted, true);

  const late = inner.reviews[0];
  const next = authenticator.authenticate(token);
  inner.reviews[1]?.answer(rejected);
  t.equal(await next, rejected);
  late?.answer(authenticated);
  await new Promise(resolve => setImmediate(resolve));
  t.equal(authenticator.authenticate(token), rejected, 'the late allow does not replace the newer rejection');
  t.match([authenticatedStore.size, rejectedStore.size], [0, 1]);
});

t.test('a rejection at its deadline is returned, removes the cached result and is never served stale', async t => {
  // Like a rejection that the API server sent in time and that the throttle delayed.
  const { authenticator, inner, clock, authenticatedStore } = cache(undefined, {
    cacheStaleIfErrorMs: 60_000,
    reviewTimeoutMs: 10,
  });
  const first = authenticator.authenticate(token);
  inner.reviews[0]?.answer(authenticated);
  t.equal(normalize(await first), authenticated);
  clock.advance(10_001);
  const second = authenticator.authenticate(token);
  inner.reviews[1]?.signal?.addEventListener('abort', () => inner.reviews[1]?.answer(rejected));
  t.equal(await second, rejected);
  t.equal(authenticatedStore.size, 0);
  t.equal(await authenticator.authenticate(token), rejected);
});

t.test('a caller that aborts does not affect the other callers of a shared review', async t => {
  const { authenticator, inner } = cache();
  const aborting = new AbortController();
  const first = authenticator.authenticate(token, { signal: aborting.signal });
  const second = authenticator.authenticate(token);
  aborting.abort();
  t.equal(inner.reviews[0]?.signal?.aborted, false, 'the review has its own signal');
  inner.reviews[0]?.answer(authenticated);
  t.strictSame((await Promise.all([first, second])).map(normalize), [authenticated, authenticated]);
  t.equal(normalize(authenticator.authenticate(token)), authenticated);
});

t.test('the result cache works without an onLookup callback', async t => {
  const stores = {
    authenticatedStore: createResultStore<CachedResult>({ maxEntries: 9 }),
    rejectedStore: createResultStore<Rejected>({ maxEntries: 9 }),
  };
  const times = {
    ttlMs: 1000,
    negativeTtlMs: 1000,
    cacheStaleIfErrorMs: 0,
    cacheRefreshAhead: true,
    reviewTimeoutMs: 1000,
  };
  const authenticator = withResultCache(
    stubAuthenticator(() => authenticated),
    { key: createCacheKeyFn([]), ...stores, ...times },
  );
  t.equal(normalize(await authenticator.authenticate(token)), authenticated);
});

t.test('a rejection is cached by the process’s own monotonic clock by default', async t => {
  const inner = stubAuthenticator(() => rejected);
  const authenticator = withResultCache(inner, {
    authenticatedStore: createResultStore<CachedResult>({ maxEntries: 9 }),
    rejectedStore: createResultStore<Rejected>({ maxEntries: 9 }),
    key: createCacheKeyFn([]),
    ttlMs: 600_000,
    negativeTtlMs: 600_000,
    cacheStaleIfErrorMs: 0,
    cacheRefreshAhead: true,
    reviewTimeoutMs: 3000,
  });
  for (let request = 0; request < 3; request += 1) t.match(await authenticator.authenticate(token), rejected);
  t.equal(inner.reviews.length, 1);
});

/** Creates a cache that refreshes ahead. The test runs its timers. */
function cacheWithRefresh(
  answer?: (token: Token) => AuthResult | Promise<AuthResult>,
  options: Partial<ResultCacheOptions> = {},
) {
  const timers: { run: () => void; ms: number }[] = [];
  const refreshes: string[] = [];
  const setUp = cache(answer, {
    cacheRefreshAhead: true,
    random: () => 0.5,
    setTimer: (run, ms) => timers.push({ run, ms }),
    onRefresh: outcome => refreshes.push(outcome),
    ...options,
  });
  return { ...setUp, timers, refreshes };
}

const settle = () => new Promise(resolve => setImmediate(resolve));

t.test(
  'an allow used in the last fifth of its TTL is refreshed once in the background, and no request waits',
  async t => {
    const { authenticator, inner, clock, timers, refreshes } = cacheWithRefresh(() => authenticated);
    await authenticator.authenticate(token);
    clock.advance(7999);
    t.equal(normalize(authenticator.authenticate(token)), authenticated);
    t.equal(timers.length, 0, 'not before the last fifth');
    clock.advance(1);
    for (let use = 0; use < 5; use += 1) t.equal(normalize(authenticator.authenticate(token)), authenticated);
    t.equal(timers.length, 1, 'one refresh is scheduled');
    t.equal(Math.round(timers[0]?.ms ?? 0), 1300, 'at its scheduled time');
    clock.advance(1300);
    timers[0]?.run();
    await settle();
    t.equal(inner.reviews.length, 2);
    t.equal(inner.reviews[1]?.context?.priority, 'refresh');
    t.ok(inner.reviews[1]?.signal);
    t.strictSame(refreshes, ['authenticated']);
    clock.advance(9000);
    t.equal(normalize(authenticator.authenticate(token)), authenticated, 'the TTL starts with the refresh');
    t.equal(timers.length, 2, 'it can be refreshed again');
  },
);

t.test('a result used after its refresh time is refreshed immediately', async t => {
  const { authenticator, clock, timers } = cacheWithRefresh(() => authenticated);
  await authenticator.authenticate(token);
  clock.advance(9900);
  authenticator.authenticate(token);
  t.equal(timers[0]?.ms, 0);
});

t.test('if refreshes take long, they start earlier, so that they finish before the result expires', async t => {
  const { authenticator, inner, clock, timers } = cacheWithRefresh();
  const review = authenticator.authenticate(token);
  inner.reviews[0]?.answer(authenticated);
  await review;
  for (let life = 1; life <= 40; life += 1) {
    clock.advance(8000);
    authenticator.authenticate(token);
    const timer = timers.shift();
    clock.advance(timer?.ms ?? Number.NaN);
    timer?.run();
    clock.advance(500);
    inner.reviews[life]?.answer(authenticated);
    await settle();
    if (life === 1) t.equal(Math.round(timer?.ms ?? 0), 1300, 'at its scheduled time before any refresh was timed');
    if (life === 40) t.equal(Math.round((timer?.ms ?? 0) / 100), 5, 'early by three times the refresh duration');
  }
});

t.test('a result that is no longer cached is not refreshed', async t => {
  const { authenticator, inner, clock, timers, refreshes, authenticatedStore } = cacheWithRefresh(() => authenticated);
  await authenticator.authenticate(token);
  clock.advance(9000);
  authenticator.authenticate(token);
  authenticatedStore.delete(key(token));
  timers[0]?.run();
  await settle();
  t.equal(inner.reviews.length, 1);
  t.strictSame(refreshes, []);
});

t.test('a token used once is not refreshed', async t => {
  const { authenticator, inner, clock, timers } = cacheWithRefresh(() => authenticated);
  await authenticator.authenticate(token);
  clock.advance(20_000);
  t.equal(timers.length, 0);
  t.equal(inner.reviews.length, 1);
});

t.test('a refresh that is rejected replaces the allow; one that fails keeps it and is not retried', async t => {
  for (const [refreshed, cachedAfter, reviews] of [
    [rejected, rejected, 2],
    [outage, authenticated, 2],
  ] as const) {
    let first = true;
    const { authenticator, inner, clock, timers } = cacheWithRefresh(() => {
      const result = first ? authenticated : refreshed;
      first = false;
      return result;
    });
    await authenticator.authenticate(token);
    clock.advance(9000);
    authenticator.authenticate(token);
    timers[0]?.run();
    await settle();
    t.equal(normalize(authenticator.authenticate(token)), cachedAfter);
    t.equal(timers.length, 1);
    t.equal(inner.reviews.length, reviews);
  }
});

t.test('a late allow from a refresh does not replace a rejection cached meanwhile', async t => {
  const { authenticator, inner, clock, timers, authenticatedStore } = cacheWithRefresh();
  const first = authenticator.authenticate(token);
  inner.reviews[0]?.answer(authenticated);
  await first;
  clock.advance(9000);
  authenticator.authenticate(token);
  timers[0]?.run();
  clock.advance(2000);
  const second = authenticator.authenticate(token);
  inner.reviews[2]?.answer(rejected);
  t.equal(await second, rejected);
  inner.reviews[1]?.answer(authenticated);
  await settle();
  t.equal(authenticatedStore.size, 0);
  t.equal(authenticator.authenticate(token), rejected);
});

t.test('the result cache refreshes with real timers by default', async t => {
  const inner = stubAuthenticator(() => authenticated);
  const authenticator = withResultCache(inner, {
    key: createCacheKeyFn([]),
    authenticatedStore: createResultStore<CachedResult>({ maxEntries: 9 }),
    rejectedStore: createResultStore<Rejected>({ maxEntries: 9 }),
    ttlMs: 50,
    negativeTtlMs: 50,
    cacheStaleIfErrorMs: 0,
    cacheRefreshAhead: true,
    reviewTimeoutMs: 1000,
  });
  await authenticator.authenticate(token);
  while (!inner.reviews.some(({ context }) => context?.priority === 'refresh')) {
    await authenticator.authenticate(token);
    await settle();
  }
  t.pass();
});

t.test('with stale-if-error, an allow is served past its TTL during an outage, with its staleness', async t => {
  let result: AuthResult = authenticated;
  const { authenticator, inner, clock, lookups } = cache(() => result, { cacheStaleIfErrorMs: 60_000 });
  await authenticator.authenticate(token);
  result = outage;
  clock.advance(12_500);
  t.strictSame(await authenticator.authenticate(token), { ...authenticated, staleForMs: 2500 });
  t.equal(inner.reviews.length, 2, 'a review was attempted');
  t.equal(lookups.at(-1), 'stale');
  result = authenticated;
  t.equal(
    normalize(await authenticator.authenticate(token)),
    authenticated,
    'it is fresh after the next successful review',
  );
  result = outage;
  clock.advance(70_001);
  t.equal(await authenticator.authenticate(token), outage, 'it is not served past the stale-if-error time');
});

t.test('while the API server is reported down, a stale allow is served without a review', async t => {
  let down = false;
  const { authenticator, inner, clock } = cache(() => authenticated, {
    cacheStaleIfErrorMs: 60_000,
    apiServerDown: () => down,
  });
  await authenticator.authenticate(token);
  down = true;
  clock.advance(10_001);
  t.match(authenticator.authenticate(token), { kind: 'authenticated', staleForMs: 1 });
  t.equal(inner.reviews.length, 1);
  t.match(authenticator.getCached(token), { kind: 'authenticated', staleForMs: 1 });
  down = false;
  t.equal(authenticator.getCached(token), undefined);
  t.equal(normalize(await authenticator.authenticate(token)), authenticated);
  t.equal(inner.reviews.length, 2);
});

t.test('a stale allow is no longer served after a rejection or the token’s expiry', async t => {
  let result: AuthResult = authenticated;
  const { authenticator, clock } = cache(() => result, { cacheStaleIfErrorMs: 60_000 });
  await authenticator.authenticate(token);
  clock.advance(10_001);
  result = rejected;
  t.equal(await authenticator.authenticate(token), rejected);
  clock.advance(2001);
  result = outage;
  t.equal(await authenticator.authenticate(token), outage);

  result = authenticated;
  const shortLived = unsignedJwt({ exp: (EPOCH + clock.now()) / 1000 + 12 });
  await authenticator.authenticate(shortLived);
  result = outage;
  clock.advance(11_000);
  t.match(await authenticator.authenticate(shortLived), { kind: 'authenticated', staleForMs: 1000 });
  clock.advance(1001);
  t.equal(await authenticator.authenticate(shortLived), outage);
});

t.test('an allow removed during the review of a stale result is not served stale', async t => {
  const { authenticator, inner, clock, authenticatedStore } = cache(undefined, { cacheStaleIfErrorMs: 60_000 });
  const first = authenticator.authenticate(token);
  inner.reviews[0]?.answer(authenticated);
  await first;
  clock.advance(10_001);
  const waiting = authenticator.authenticate(token);
  authenticatedStore.delete(key(token));
  inner.reviews[1]?.answer(outage);
  t.equal(await waiting, outage);
});

t.test('a stale allow is not served if gatecar is overloaded', async t => {
  let result: AuthResult = authenticated;
  const overloaded = { ...outage, reason: 'overloaded' } as const;
  const { authenticator, clock } = cache(() => result, { cacheStaleIfErrorMs: 60_000 });
  await authenticator.authenticate(token);
  clock.advance(10_001);
  result = overloaded;
  t.equal(await authenticator.authenticate(token), overloaded);
});

t.test('without stale-if-error an allow is not served past its TTL', async t => {
  let result: AuthResult = authenticated;
  const { authenticator, clock } = cache(() => result, { apiServerDown: () => true });
  await authenticator.authenticate(token);
  result = outage;
  clock.advance(10_001);
  t.equal(await authenticator.authenticate(token), outage);
});

t.test('getCached returns a cached result without a review', async t => {
  const { authenticator, inner, lookups } = cache(reviewed => (reviewed === token ? authenticated : rejected));
  const bad = new Token('bad');
  t.equal(authenticator.getCached(token), undefined);
  await authenticator.authenticate(token);
  await authenticator.authenticate(bad);
  t.equal(normalize(authenticator.getCached(token)), authenticated);
  t.equal(authenticator.getCached(bad), rejected);
  t.equal(inner.reviews.length, 2);
  t.strictSame(lookups, ['miss', 'miss', 'hit_positive', 'hit_negative']);
});

t.test('a request’s trace has the source of its result and is passed to the review', async t => {
  const startTrace = (): RequestTrace => ({ source: 'local' });
  const { authenticator, inner, clock } = cache(undefined, { cacheStaleIfErrorMs: 60_000 });
  const [first, second, third] = [startTrace(), startTrace(), startTrace()];
  const reviewed = authenticator.authenticate(token, { trace: first });
  const shared = authenticator.authenticate(token, { trace: second });
  t.equal(inner.reviews[0]?.context?.trace, first);
  inner.reviews[0]?.answer(authenticated);
  await Promise.all([reviewed, shared]);
  t.equal(first.source, 'local', 'later stages set the source of a review');
  t.equal(second.source, 'shared');
  authenticator.authenticate(token, { trace: third });
  t.equal(third.source, 'cache');
  clock.advance(10_001);
  const lastTrace = startTrace();
  const last = authenticator.authenticate(token, { trace: lastTrace });
  inner.reviews[1]?.answer(outage);
  t.match(await last, { kind: 'authenticated', staleForMs: 1 });
  t.equal(lastTrace.source, 'stale');
});

t.test('a request’s trace has the source cache for a cached rejection and stale for a stale allow', async t => {
  const trace: RequestTrace = { source: 'local' };
  const { authenticator } = cache(() => rejected);
  await authenticator.authenticate(token);
  authenticator.authenticate(token, { trace });
  t.equal(trace.source, 'cache');
  const lookupTrace: RequestTrace = { source: 'local' };
  t.equal(authenticator.getCached(token, { trace: lookupTrace }), rejected);
  t.equal(lookupTrace.source, 'cache');
  const stale = cache(() => authenticated, { cacheStaleIfErrorMs: 60_000, apiServerDown: () => true });
  await stale.authenticator.authenticate(token);
  stale.clock.advance(10_001);
  stale.authenticator.authenticate(token, { trace });
  t.equal(trace.source, 'stale');
});

t.test('without stale-if-error nothing is served stale, even within the last fraction of a millisecond', async t => {
  const results: AuthResult[] = [authenticated, outage, outage];
  const { authenticator, clock, lookups } = cache(() => results.shift() ?? rejected, { apiServerDown: () => true });
  clock.advance(0.5);
  t.equal(normalize(authenticator.authenticate(token)), authenticated);
  clock.advance(9999.8);
  t.equal(authenticator.getCached(token), undefined);
  t.equal(authenticator.authenticate(token), outage);
  t.notOk(lookups.includes('stale'));
});

t.test('a request without memory to wait is rejected as overloaded, and cached results are still served', async t => {
  const waiting = new Budget(2500);
  const cachedToken = new Token('cached');
  const { authenticator, inner, lookups } = cache(() => authenticated, { waiting });
  const context = { signal: new AbortController().signal, heldBytes: 1000 };
  t.equal(normalize(await authenticator.authenticate(cachedToken, context)), authenticated);
  t.equal(waiting.usedBytes, 0, 'a result without a wait reserves nothing');
  let full = 0;
  const onWaitingMemoryFull = (): void => {
    full += 1;
  };
  const pending = cache(undefined, { waiting, onWaitingMemoryFull });
  const first = pending.authenticator.authenticate(token, context);
  const second = pending.authenticator.authenticate(token, context);
  t.equal(waiting.usedBytes, 2000);
  t.equal(full, 0);
  t.match(
    pending.authenticator.authenticate(token, context),
    { kind: 'unavailable', reason: 'overloaded', cause: 'waiting_memory_full' },
    'a request that would share the review',
  );
  t.match(
    pending.authenticator.authenticate(new Token('uncached'), context),
    { reason: 'overloaded' },
    'a request that would start a review',
  );
  t.match(
    pending.authenticator.authenticate(new Token('uncached')),
    { reason: 'overloaded' },
    'a request of unknown size',
  );
  t.equal(full, 3, 'each rejection is counted');
  t.match(authenticator.authenticate(token, context), { reason: 'overloaded' }, 'rejections work without a callback');
  t.equal(pending.inner.reviews.length, 1, 'a rejected request starts no review');
  t.equal(normalize(authenticator.authenticate(cachedToken, context)), authenticated);
  t.equal(lookups.at(-1), 'hit_positive');
  t.equal(inner.reviews.length, 1);
  pending.inner.reviews[0]?.answer(authenticated);
  t.strictSame((await Promise.all([first, second])).map(normalize), [authenticated, authenticated]);
  t.equal(waiting.usedBytes, 0);
  t.equal(normalize(await pending.authenticator.authenticate(token, context)), authenticated);
});
