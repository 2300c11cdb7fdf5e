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
import { fakeClock } from '../../fixtures/clock.ts';
import { MY_APP } from '../../fixtures/identities.ts';
import { scriptedAuthority } from '../../fixtures/stub-authenticator.ts';
import { unsignedJwt } from '../../fixtures/unsigned-jwt.ts';
import { acceptedAs } from '../../fixtures/verdicts.ts';

const token = new Token('a-token');
const yes = acceptedAs();
const no: Rejected = { kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' };
const outage = unavailable('server_error');

const key = createCacheKeyFn(['bindcar']);

/** What the wall clock says when the test's clock says 0. */
const EPOCH = Date.parse('2025-06-01T12:00:00Z');

/** A yes as it is stored, of a life without end. */
const known = (verdict: Authenticated): CachedResult => {
  const never = Number.POSITIVE_INFINITY;
  return { ...verdict, freshUntil: never, renewFrom: never, expiresAt: undefined, renewing: false };
};

/** What whoever asked is told, whatever else is kept with it. */
function told<T>(verdict: T): T | Authenticated {
  const { kind, identity, staleForMs } = Object(verdict) as Partial<Authenticated>;
  return kind === 'authenticated' && isDeepStrictEqual(identity, yes.identity) && staleForMs === undefined
    ? yes
    : verdict;
}

function cache(answer?: (token: Token) => AuthResult | Promise<AuthResult>, options: Partial<ResultCacheOptions> = {}) {
  const clock = fakeClock();
  const inner = scriptedAuthority(answer);
  const lookups: LookupResult[] = [];
  const accepted = createResultStore<CachedResult>({ maxEntries: 100, clock });
  const refused = createResultStore<Rejected>({ maxEntries: 100, clock });
  const authority = withResultCache(inner, {
    key,
    accepted,
    refused,
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
  return { authority, inner, clock, lookups, accepted, refused };
}

t.test('a thousand requests with one token cost one review', async t => {
  const { authority, inner, lookups } = cache(() => yes);
  const verdicts = new Set<AuthResult>();
  for (let request = 0; request < 1000; request += 1) verdicts.add(await authority.authenticate(token));
  t.strictSame([...verdicts].map(told), [yes]);
  t.equal(inner.asked.length, 1);
  t.equal(lookups.filter(result => result === 'miss').length, 1);
  t.equal(lookups.filter(result => result === 'hit_positive').length, 999);
});

t.test('a ServiceAccount’s result reads as it was told, and is one object for all', async t => {
  const asTold: Authenticated = { kind: 'authenticated', identity: MY_APP };
  const { authority } = cache(() => asTold);
  const verdict = authority.authenticate(token) as Authenticated;
  t.equal(verdict.kind, 'authenticated');
  const { identity } = verdict;
  for (const [field, value] of Object.entries(MY_APP)) t.strictSame(identity[field as keyof Identity], value, field);
  t.equal(authority.authenticate(token), verdict);
  t.equal(authority.getCached(token), verdict);
});

t.test('256 simultaneous first requests share one review', async t => {
  const { authority, inner, lookups } = cache();
  const requests = Array.from({ length: 256 }, () => authority.authenticate(token));
  t.equal(inner.asked.length, 1);
  inner.asked[0]?.answer(yes);
  t.ok((await Promise.all(requests)).every(verdict => told(verdict) === yes));
  t.equal(lookups.filter(result => result === 'coalesced').length, 255);
});

t.test('each token has a review of its own', async t => {
  const { authority, inner } = cache(one => (one === token ? yes : no));
  t.equal(told(await authority.authenticate(token)), yes);
  t.equal(await authority.authenticate(new Token('a-tokem')), no);
  t.equal(inner.asked.length, 2);
});

t.test('a known result is answered at once, without a promise', async t => {
  const { authority } = cache(() => yes);
  await authority.authenticate(token);
  t.equal(told(authority.authenticate(token)), yes);
});

t.test('a result that was found without a review is told at once, and remembered as any other', async t => {
  for (const [verdict, second] of [
    [no, 'hit_negative'],
    [yes, 'hit_positive'],
    [outage, 'miss'],
  ] as const) {
    const { authority, lookups } = cache(() => verdict);
    t.equal(told(authority.authenticate(token)), verdict);
    t.equal(told(authority.authenticate(token)), verdict);
    t.strictSame(lookups, ['miss', second]);
  }
});

t.test('a stored identity equals the one that the review returned, and is frozen', async t => {
  const identity = MY_APP;
  const { authority } = cache(() => ({ kind: 'authenticated', identity }));
  await authority.authenticate(token);
  const verdict = authority.authenticate(token) as Authenticated;
  t.equal(verdict.kind, 'authenticated');
  t.strictSame(verdict.identity, identity);
  t.ok(Object.isFrozen(verdict.identity));
});

t.test('a yes is asked about again after its time to live', async t => {
  const { authority, inner, clock } = cache(() => yes);
  await authority.authenticate(token);
  clock.advance(10_000);
  await authority.authenticate(token);
  t.equal(inner.asked.length, 1);
  clock.advance(1);
  await authority.authenticate(token);
  t.equal(inner.asked.length, 2);
});

t.test('a no has a time to live of its own', async t => {
  const { authority, inner, clock, lookups } = cache(() => no);
  await authority.authenticate(token);
  clock.advance(2000);
  t.equal(authority.authenticate(token), no);
  clock.advance(1);
  await authority.authenticate(token);
  t.equal(inner.asked.length, 2);
  t.strictSame(lookups, ['miss', 'hit_negative', 'miss']);
});

t.test('a yes is never kept past the token’s own end', async t => {
  const { authority, inner, clock } = cache(() => yes);
  const shortLived = unsignedJwt({ exp: EPOCH / 1000 + 4 });
  await authority.authenticate(shortLived);
  clock.advance(3998);
  t.equal(told(authority.authenticate(shortLived)), yes);
  clock.advance(1);
  await authority.authenticate(shortLived);
  t.equal(inner.asked.length, 2);
});

t.test('a token that ends later than the time to live is asked about again all the same', async t => {
  const { authority, inner, clock } = cache(() => yes);
  const longLived = unsignedJwt({ exp: EPOCH / 1000 + 365 * 86_400 });
  await authority.authenticate(longLived);
  clock.advance(10_001);
  await authority.authenticate(longLived);
  t.equal(inner.asked.length, 2);
});

t.test('a token that has ended but is still accepted, by leeway, is not kept at all', async t => {
  const { authority, inner, accepted } = cache(() => yes);
  for (const exp of [EPOCH / 1000 - 30, EPOCH / 1000]) {
    const ended = unsignedJwt({ exp });
    t.equal(told(await authority.authenticate(ended)), yes);
    t.equal(told(await authority.authenticate(ended)), yes);
  }
  t.equal(inner.asked.length, 4);
  t.equal(accepted.size, 0);
});

t.test('a token’s own end counts by the clock on the wall, though the machine was suspended meanwhile', async t => {
  const outageAfter = [yes, outage];
  let suspendedMs = 0;
  let down = false;
  const { authority, inner, clock, accepted } = cache(() => outageAfter.shift() ?? outage, {
    cacheStaleIfErrorMs: 3_600_000,
    wallClock: () => EPOCH + clock.now() + suspendedMs,
    authorityDown: () => down,
  });
  const ending = unsignedJwt({ exp: EPOCH / 1000 + 600 });
  t.equal(told(await authority.authenticate(ending)), yes);
  clock.advance(20_000);
  down = true;
  t.match(authority.authenticate(ending), { staleForMs: 10_000 });
  suspendedMs = 600_000;
  t.equal(accepted.size, 1, 'the store knows nothing of it');
  t.equal(authority.getCached(ending), undefined);
  t.equal(await authority.authenticate(ending), outage, 'also not in place of an outage');
  t.equal(inner.asked.length, 2);
});

t.test('an end that is a fraction of a second, or absurd, is taken as it is', async t => {
  const { authority, inner, clock } = cache(() => yes);
  const fraction = unsignedJwt({ exp: EPOCH / 1000 + 1.5 });
  const absurd = unsignedJwt({ exp: Number.MAX_SAFE_INTEGER });
  const text = unsignedJwt({ exp: 'tomorrow' });
  for (const one of [fraction, absurd, text]) await authority.authenticate(one);
  clock.advance(1400);
  for (const one of [fraction, absurd, text]) t.equal(told(authority.authenticate(one)), yes);
  clock.advance(200);
  await authority.authenticate(fraction);
  t.equal(inner.asked.length, 4);
});

t.test('a token’s end is compared with the real time unless another is given', async t => {
  const inner = scriptedAuthority(() => yes);
  const stores = {
    accepted: createResultStore<CachedResult>({ maxEntries: 9 }),
    refused: createResultStore<Rejected>({ maxEntries: 9 }),
  };
  const times = {
    ttlMs: 600_000,
    negativeTtlMs: 2000,
    cacheStaleIfErrorMs: 0,
    cacheRefreshAhead: true,
    reviewTimeoutMs: 3000,
  };
  const authority = withResultCache(inner, { key: createCacheKeyFn([]), ...stores, ...times });
  const ended = unsignedJwt({ exp: Date.now() / 1000 - 1 });
  const fresh = unsignedJwt({ exp: Date.now() / 1000 + 3600 });
  for (const one of [ended, ended, fresh, fresh]) await authority.authenticate(one);
  t.equal(inner.asked.length, 3);
});

t.test('a local rejection is kept no longer than it says, and no longer than any other', async t => {
  for (const [keepUntil, keptMs] of [
    [501, 500],
    [9001, 2000],
    [1, 0],
    [undefined, 2000],
  ] as const) {
    const local: Rejected = { ...no, ...(keepUntil !== undefined && { keepUntil }) };
    const { authority, inner, clock } = cache(() => local);
    await authority.authenticate(token);
    clock.advance(keptMs);
    if (keptMs > 0) t.equal(authority.authenticate(token), local, `${keepUntil}`);
    clock.advance(1);
    await authority.authenticate(token);
    t.equal(inner.asked.length, 2, `${keepUntil}`);
  }
});

t.test('with a time to live of 0 nothing is kept, and whoever asks at the same time still shares', async t => {
  for (const verdict of [yes, no]) {
    const { authority, inner, accepted, refused } = cache(undefined, { ttlMs: 0, negativeTtlMs: 0 });
    for (let round = 0; round < 3; round += 1) {
      const requests = [authority.authenticate(token), authority.authenticate(token)];
      inner.asked[round]?.answer(verdict);
      t.strictSame(await Promise.all(requests), [verdict, verdict]);
    }
    t.equal(inner.asked.length, 3);
    t.equal(accepted.size + refused.size, 0);
  }
});

t.test('one of the two times to live may be 0 alone', async t => {
  const onlyYes = cache(one => (one === token ? yes : no), { negativeTtlMs: 0 });
  const onlyNo = cache(one => (one === token ? yes : no), { ttlMs: 0 });
  const bad = new Token('bad');
  for (const { authority } of [onlyYes, onlyNo])
    for (const one of [token, token, bad, bad]) await authority.authenticate(one);
  t.strictSame(
    onlyYes.inner.asked.map(review => review.token),
    [token, bad, bad],
  );
  t.strictSame(
    onlyNo.inner.asked.map(review => review.token),
    [token, token, bad],
  );
});

t.test('an outage is told to whoever waits and never remembered', async t => {
  const { authority, inner, accepted, refused } = cache();
  const requests = [authority.authenticate(token), authority.authenticate(token)];
  inner.asked[0]?.answer(outage);
  t.strictSame(await Promise.all(requests), [outage, outage]);
  t.equal(accepted.size + refused.size, 0);

  const next = authority.authenticate(token);
  inner.asked[1]?.answer(yes);
  t.equal(told(await next), yes);
});

t.test('a no replaces a yes, and a yes a no, whatever their times to live', async t => {
  let verdict: AuthResult = yes;
  const { authority, clock, accepted, refused } = cache(() => verdict, { ttlMs: 1000, negativeTtlMs: 1000 });
  await authority.authenticate(token);
  t.match([accepted.size, refused.size], [1, 0]);
  for (const next of [no, yes, no]) {
    verdict = next;
    clock.advance(1001);
    t.equal(told(await authority.authenticate(token)), next);
    t.equal(told(authority.authenticate(token)), next);
    t.match([accepted.size, refused.size], next === yes ? [1, 0] : [0, 1]);
  }
});

t.test('a result that came to be stored during a review gives way to the review’s own', async t => {
  for (const [stored, verdict] of [
    [yes, no],
    [no, yes],
  ] as const) {
    const { authority, inner, accepted, refused } = cache();
    const review = authority.authenticate(token);
    if (stored === yes) accepted.set(key(token), known(yes), 60_000);
    else refused.set(key(token), no, 60_000);
    inner.asked[0]?.answer(verdict);
    await review;
    t.equal(told(authority.authenticate(token)), verdict);
    t.equal(accepted.size + refused.size, 1);
  }
});

t.test('a no ends a yes even where a no is not kept', async t => {
  const { authority, inner, accepted } = cache(undefined, { negativeTtlMs: 0 });
  const review = authority.authenticate(token);
  accepted.set(key(token), known(yes), 60_000);
  inner.asked[0]?.answer(no);
  await review;
  t.equal(accepted.size, 0);
});

t.test('an outage leaves what is known in place', async t => {
  const { authority, inner, accepted } = cache();
  const review = authority.authenticate(token);
  accepted.set(key(token), known(yes), 60_000);
  inner.asked[0]?.answer(outage);
  await review;
  t.equal(told(authority.authenticate(token)), yes);
});

t.test('a review past its deadline is a timeout for all who wait, and its answer is not remembered', async t => {
  const { authority, inner, accepted, refused } = cache(undefined, { reviewTimeoutMs: 50 });
  const requests = [authority.authenticate(token), authority.authenticate(token)];
  t.strictSame(await Promise.all(requests), [unavailable('timeout'), unavailable('timeout')]);
  t.equal(inner.asked[0]?.signal?.aborted, true);

  const late = inner.asked[0];
  const next = authority.authenticate(token);
  inner.asked[1]?.answer(no);
  t.equal(await next, no);
  late?.answer(yes);
  await new Promise(resolve => setImmediate(resolve));
  t.equal(authority.authenticate(token), no, 'the late yes does not replace the newer no');
  t.match([accepted.size, refused.size], [0, 1]);
});

t.test('a rejection at its deadline is returned, removes the cached result and is never served stale', async t => {
  // As a refusal does that the API server gave in time and that waited for being told.
  const { authority, inner, clock, accepted } = cache(undefined, { cacheStaleIfErrorMs: 60_000, reviewTimeoutMs: 10 });
  const first = authority.authenticate(token);
  inner.asked[0]?.answer(yes);
  t.equal(told(await first), yes);
  clock.advance(10_001);
  const second = authority.authenticate(token);
  inner.asked[1]?.signal?.addEventListener('abort', () => inner.asked[1]?.answer(no));
  t.equal(await second, no);
  t.equal(accepted.size, 0);
  t.equal(await authority.authenticate(token), no);
});

t.test('one caller’s leaving changes nothing for the others', async t => {
  const { authority, inner } = cache();
  const leaving = new AbortController();
  const first = authority.authenticate(token, { signal: leaving.signal });
  const second = authority.authenticate(token);
  leaving.abort();
  t.equal(inner.asked[0]?.signal?.aborted, false, 'the review has a signal of its own');
  inner.asked[0]?.answer(yes);
  t.strictSame((await Promise.all([first, second])).map(told), [yes, yes]);
  t.equal(told(authority.authenticate(token)), yes);
});

t.test('nobody has to be told of look-ups', async t => {
  const stores = {
    accepted: createResultStore<CachedResult>({ maxEntries: 9 }),
    refused: createResultStore<Rejected>({ maxEntries: 9 }),
  };
  const times = {
    ttlMs: 1000,
    negativeTtlMs: 1000,
    cacheStaleIfErrorMs: 0,
    cacheRefreshAhead: true,
    reviewTimeoutMs: 1000,
  };
  const authority = withResultCache(
    scriptedAuthority(() => yes),
    { key: createCacheKeyFn([]), ...stores, ...times },
  );
  t.equal(told(await authority.authenticate(token)), yes);
});

/** A cache that renews, its timers run by hand. */
function renewing(
  answer?: (token: Token) => AuthResult | Promise<AuthResult>,
  options: Partial<ResultCacheOptions> = {},
) {
  const timers: { run: () => void; ms: number }[] = [];
  const renewals: string[] = [];
  const all = cache(answer, {
    cacheRefreshAhead: true,
    random: () => 0.5,
    setTimer: (run, ms) => timers.push({ run, ms }),
    onRenewal: outcome => renewals.push(outcome),
    ...options,
  });
  return { ...all, timers, renewals };
}

const settle = () => new Promise(resolve => setImmediate(resolve));

t.test('a yes used in the last fifth of its life is reviewed once in the background, and nobody waits', async t => {
  const { authority, inner, clock, timers, renewals } = renewing(() => yes);
  await authority.authenticate(token);
  clock.advance(7999);
  t.equal(told(authority.authenticate(token)), yes);
  t.equal(timers.length, 0, 'not before');
  clock.advance(1);
  for (let use = 0; use < 5; use += 1) t.equal(told(authority.authenticate(token)), yes);
  t.equal(timers.length, 1, 'once');
  t.equal(Math.round(timers[0]?.ms ?? 0), 1300, 'at its own time');
  clock.advance(1300);
  timers[0]?.run();
  await settle();
  t.equal(inner.asked.length, 2);
  t.equal(inner.asked[1]?.asking?.priority, 'refresh');
  t.ok(inner.asked[1]?.signal);
  t.strictSame(renewals, ['authenticated']);
  clock.advance(9000);
  t.equal(told(authority.authenticate(token)), yes, 'it lives from then on');
  t.equal(timers.length, 2, 'and may be renewed again');
});

t.test('a use past the time of renewal has it done at once', async t => {
  const { authority, clock, timers } = renewing(() => yes);
  await authority.authenticate(token);
  clock.advance(9900);
  authority.authenticate(token);
  t.equal(timers[0]?.ms, 0);
});

t.test('where renewals take long they begin sooner, so that they end before the result does', async t => {
  const { authority, inner, clock, timers } = renewing();
  const review = authority.authenticate(token);
  inner.asked[0]?.answer(yes);
  await review;
  for (let life = 1; life <= 40; life += 1) {
    clock.advance(8000);
    authority.authenticate(token);
    const begin = timers.shift();
    clock.advance(begin?.ms ?? Number.NaN);
    begin?.run();
    clock.advance(500);
    inner.asked[life]?.answer(yes);
    await settle();
    if (life === 1) t.equal(Math.round(begin?.ms ?? 0), 1300, 'at its own time, as long as nobody knows better');
    if (life === 40) t.equal(Math.round((begin?.ms ?? 0) / 100), 5, 'three times as early as they take');
  }
});

t.test('what is no longer known is not renewed', async t => {
  const { authority, inner, clock, timers, renewals, accepted } = renewing(() => yes);
  await authority.authenticate(token);
  clock.advance(9000);
  authority.authenticate(token);
  accepted.delete(key(token));
  timers[0]?.run();
  await settle();
  t.equal(inner.asked.length, 1);
  t.strictSame(renewals, []);
});

t.test('a token used once is not renewed', async t => {
  const { authority, inner, clock, timers } = renewing(() => yes);
  await authority.authenticate(token);
  clock.advance(20_000);
  t.equal(timers.length, 0);
  t.equal(inner.asked.length, 1);
});

t.test('a no replaces the yes at once, an outage leaves it to its end and is not tried again', async t => {
  for (const [verdict, after, asked] of [
    [no, no, 2],
    [outage, yes, 2],
  ] as const) {
    let first = true;
    const { authority, inner, clock, timers } = renewing(() => {
      const answer = first ? yes : verdict;
      first = false;
      return answer;
    });
    await authority.authenticate(token);
    clock.advance(9000);
    authority.authenticate(token);
    timers[0]?.run();
    await settle();
    t.equal(told(authority.authenticate(token)), after);
    t.equal(timers.length, 1);
    t.equal(inner.asked.length, asked);
  }
});

t.test('a yes that comes late does not replace what was learned meanwhile', async t => {
  const { authority, inner, clock, timers, accepted } = renewing();
  const first = authority.authenticate(token);
  inner.asked[0]?.answer(yes);
  await first;
  clock.advance(9000);
  authority.authenticate(token);
  timers[0]?.run();
  clock.advance(2000);
  const second = authority.authenticate(token);
  inner.asked[2]?.answer(no);
  t.equal(await second, no);
  inner.asked[1]?.answer(yes);
  await settle();
  t.equal(accepted.size, 0);
  t.equal(authority.authenticate(token), no);
});

t.test('the real timers renew too', async t => {
  const inner = scriptedAuthority(() => yes);
  const authority = withResultCache(inner, {
    key: createCacheKeyFn([]),
    accepted: createResultStore<CachedResult>({ maxEntries: 9 }),
    refused: createResultStore<Rejected>({ maxEntries: 9 }),
    ...{ ttlMs: 50, negativeTtlMs: 50, cacheStaleIfErrorMs: 0, cacheRefreshAhead: true, reviewTimeoutMs: 1000 },
  });
  await authority.authenticate(token);
  while (!inner.asked.some(({ asking }) => asking?.priority === 'refresh')) {
    await authority.authenticate(token);
    await settle();
  }
  t.pass();
});

t.test('with grace a yes outlives its time while nobody can be asked, marked with how long ago it ended', async t => {
  let verdict: AuthResult = yes;
  const { authority, inner, clock, lookups } = cache(() => verdict, { cacheStaleIfErrorMs: 60_000 });
  await authority.authenticate(token);
  verdict = outage;
  clock.advance(12_500);
  t.strictSame(await authority.authenticate(token), { ...yes, staleForMs: 2500 });
  t.equal(inner.asked.length, 2, 'it was tried');
  t.equal(lookups.at(-1), 'stale');
  verdict = yes;
  t.equal(told(await authority.authenticate(token)), yes, 'it is fresh as soon as it can be asked about');
  verdict = outage;
  clock.advance(70_001);
  t.equal(await authority.authenticate(token), outage, 'and not past its grace');
});

t.test('where it is known that nobody can be asked, a stale yes does not wait for another failure', async t => {
  let down = false;
  const { authority, inner, clock } = cache(() => yes, { cacheStaleIfErrorMs: 60_000, authorityDown: () => down });
  await authority.authenticate(token);
  down = true;
  clock.advance(10_001);
  t.match(authority.authenticate(token), { kind: 'authenticated', staleForMs: 1 });
  t.equal(inner.asked.length, 1);
  t.match(authority.getCached(token), { kind: 'authenticated', staleForMs: 1 });
  down = false;
  t.equal(authority.getCached(token), undefined);
  t.equal(told(await authority.authenticate(token)), yes);
  t.equal(inner.asked.length, 2);
});

t.test('grace ends with a refusal, and with the token', async t => {
  let verdict: AuthResult = yes;
  const { authority, clock } = cache(() => verdict, { cacheStaleIfErrorMs: 60_000 });
  await authority.authenticate(token);
  clock.advance(10_001);
  verdict = no;
  t.equal(await authority.authenticate(token), no);
  clock.advance(2001);
  verdict = outage;
  t.equal(await authority.authenticate(token), outage);

  verdict = yes;
  const shortLived = unsignedJwt({ exp: (EPOCH + clock.now()) / 1000 + 12 });
  await authority.authenticate(shortLived);
  verdict = outage;
  clock.advance(11_000);
  t.match(await authority.authenticate(shortLived), { kind: 'authenticated', staleForMs: 1000 });
  clock.advance(1001);
  t.equal(await authority.authenticate(shortLived), outage);
});

t.test('a refusal that comes while a stale yes is being asked about ends it for all who wait', async t => {
  const { authority, inner, clock, accepted } = cache(undefined, { cacheStaleIfErrorMs: 60_000 });
  const first = authority.authenticate(token);
  inner.asked[0]?.answer(yes);
  await first;
  clock.advance(10_001);
  const waiting = authority.authenticate(token);
  accepted.delete(key(token));
  inner.asked[1]?.answer(outage);
  t.equal(await waiting, outage);
});

t.test('our own bound is no reason to serve what is stale', async t => {
  let verdict: AuthResult = yes;
  const overloaded = { ...outage, reason: 'overloaded' } as const;
  const { authority, clock } = cache(() => verdict, { cacheStaleIfErrorMs: 60_000 });
  await authority.authenticate(token);
  clock.advance(10_001);
  verdict = overloaded;
  t.equal(await authority.authenticate(token), overloaded);
});

t.test('without grace a yes ends with its time', async t => {
  let verdict: AuthResult = yes;
  const { authority, clock } = cache(() => verdict, { authorityDown: () => true });
  await authority.authenticate(token);
  verdict = outage;
  clock.advance(10_001);
  t.equal(await authority.authenticate(token), outage);
});

t.test('what is known can be asked for without a review', async t => {
  const { authority, inner, lookups } = cache(one => (one === token ? yes : no));
  const bad = new Token('bad');
  t.equal(authority.getCached(token), undefined);
  await authority.authenticate(token);
  await authority.authenticate(bad);
  t.equal(told(authority.getCached(token)), yes);
  t.equal(authority.getCached(bad), no);
  t.equal(inner.asked.length, 2);
  t.strictSame(lookups, ['miss', 'miss', 'hit_positive', 'hit_negative']);
});

t.test('a trail tells where the answer came from, and goes along to the review', async t => {
  const follow = (): RequestTrace => ({ source: 'local' });
  const { authority, inner, clock } = cache(undefined, { cacheStaleIfErrorMs: 60_000 });
  const [first, second, third] = [follow(), follow(), follow()];
  const asked = authority.authenticate(token, { trail: first });
  const shared = authority.authenticate(token, { trail: second });
  t.equal(inner.asked[0]?.asking?.trail, first);
  inner.asked[0]?.answer(yes);
  await Promise.all([asked, shared]);
  t.equal(first.source, 'local', 'whether anybody was asked is for the stages behind to say');
  t.equal(second.source, 'shared');
  authority.authenticate(token, { trail: third });
  t.equal(third.source, 'cache');
  clock.advance(10_001);
  const late = follow();
  const renewed = authority.authenticate(token, { trail: late });
  inner.asked[1]?.answer(outage);
  t.match(await renewed, { kind: 'authenticated', staleForMs: 1 });
  t.equal(late.source, 'stale');
});

t.test('a trail tells that a no, or a yes past its time, was at hand', async t => {
  const trail: RequestTrace = { source: 'local' };
  const { authority } = cache(() => no);
  await authority.authenticate(token);
  authority.authenticate(token, { trail });
  t.equal(trail.source, 'cache');
  const known: RequestTrace = { source: 'local' };
  t.equal(authority.getCached(token, { trail: known }), no);
  t.equal(known.source, 'cache');
  const stale = cache(() => yes, { cacheStaleIfErrorMs: 60_000, authorityDown: () => true });
  await stale.authority.authenticate(token);
  stale.clock.advance(10_001);
  stale.authority.authenticate(token, { trail });
  t.equal(trail.source, 'stale');
});

t.test('without a time of grace nothing is stale, not even in the last part of a millisecond', async t => {
  const outageAfter: AuthResult[] = [yes, outage, outage];
  const { authority, clock, lookups } = cache(() => outageAfter.shift() ?? no, { authorityDown: () => true });
  clock.advance(0.5);
  t.equal(told(authority.authenticate(token)), yes);
  clock.advance(9999.8);
  t.equal(authority.getCached(token), undefined);
  t.equal(authority.authenticate(token), outage);
  t.notOk(lookups.includes('stale'));
});

t.test(
  'if there is no memory for one more that waits, it is rejected as overloaded, and cached results are served',
  async t => {
    const waiting = new Budget(2500);
    const cachedToken = new Token('cached');
    const { authority, inner, lookups } = cache(() => yes, { waiting });
    const asking = { signal: new AbortController().signal, heldBytes: 1000 };
    t.equal(told(await authority.authenticate(cachedToken, asking)), yes);
    t.equal(waiting.usedBytes, 0, 'a result without a wait holds nothing');
    let full = 0;
    const onWaitingMemoryFull = (): void => {
      full += 1;
    };
    const pending = cache(undefined, { waiting, onWaitingMemoryFull });
    const first = pending.authority.authenticate(token, asking);
    const second = pending.authority.authenticate(token, asking);
    t.equal(waiting.usedBytes, 2000);
    t.equal(full, 0);
    t.match(
      pending.authority.authenticate(token, asking),
      { kind: 'unavailable', reason: 'overloaded', cause: 'waiting_memory_full' },
      'a second joins',
    );
    t.match(pending.authority.authenticate(new Token('other'), asking), { reason: 'overloaded' }, 'a new review');
    t.match(
      pending.authority.authenticate(new Token('other')),
      { reason: 'overloaded' },
      'of a size that is not known',
    );
    t.equal(full, 3, 'each is counted');
    t.match(authority.authenticate(token, asking), { reason: 'overloaded' }, 'also if none is counted');
    t.equal(pending.inner.asked.length, 1, 'a rejected request starts no review');
    t.equal(told(authority.authenticate(cachedToken, asking)), yes);
    t.equal(lookups.at(-1), 'hit_positive');
    t.equal(inner.asked.length, 1);
    pending.inner.asked[0]?.answer(yes);
    t.strictSame((await Promise.all([first, second])).map(told), [yes, yes]);
    t.equal(waiting.usedBytes, 0);
    t.equal(told(await pending.authority.authenticate(token, asking)), yes);
  },
);
