import t from 'tap';
import { type Accepted, type Refused, unavailable, type Verdict } from '../../src/authority/authority.ts';
import { type CacheOptions, cached, type LookupResult } from '../../src/authority/cached.ts';
import { cacheKeys } from '../../src/cache/key.ts';
import { verdictStore } from '../../src/cache/verdict-store.ts';
import { Token } from '../../src/credential/token.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { scriptedAuthority } from '../fixtures/scripted-authority.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';
import { acceptedAs } from '../fixtures/verdicts.ts';

const token = new Token('a-token');
const yes = acceptedAs();
const no: Refused = { kind: 'refused', reason: 'token_rejected', detail: 'invalid bearer token' };
const outage = unavailable('server error');

const key = cacheKeys(['bindcar']);

/** What the wall clock says when the test's clock says 0. */
const EPOCH = Date.parse('2025-06-01T12:00:00Z');

function cache(answer?: (token: Token) => Verdict | Promise<Verdict>, options: Partial<CacheOptions> = {}) {
  const clock = fakeClock();
  const inner = scriptedAuthority(answer);
  const lookups: LookupResult[] = [];
  const accepted = verdictStore<Accepted>({ maxEntries: 100, clock });
  const refused = verdictStore<Refused>({ maxEntries: 100, clock });
  const authority = cached(inner, {
    key,
    accepted,
    refused,
    ttlMs: 10_000,
    negativeTtlMs: 2000,
    reviewTimeoutMs: 60_000,
    onLookup: result => lookups.push(result),
    wallClock: () => EPOCH + clock.now(),
    ...options,
  });
  return { authority, inner, clock, lookups, accepted, refused };
}

t.test('a thousand requests with one token cost one review', async t => {
  const { authority, inner, lookups } = cache(() => yes);
  const verdicts = new Set<Verdict>();
  for (let request = 0; request < 1000; request += 1) verdicts.add(await authority.review(token));
  t.strictSame([...verdicts], [yes]);
  t.equal(inner.asked.length, 1);
  t.equal(lookups.filter(result => result === 'miss').length, 1);
  t.equal(lookups.filter(result => result === 'hit_positive').length, 999);
});

t.test('256 simultaneous first requests share one review', async t => {
  const { authority, inner, lookups } = cache();
  const requests = Array.from({ length: 256 }, () => authority.review(token));
  t.equal(inner.asked.length, 1);
  inner.asked[0]?.answer(yes);
  t.ok((await Promise.all(requests)).every(verdict => verdict === yes));
  t.equal(lookups.filter(result => result === 'coalesced').length, 255);
});

t.test('each token has a review of its own', async t => {
  const { authority, inner } = cache(one => (one === token ? yes : no));
  t.equal(await authority.review(token), yes);
  t.equal(await authority.review(new Token('a-tokem')), no);
  t.equal(inner.asked.length, 2);
});

t.test('a known verdict is answered at once, without a promise', async t => {
  const { authority } = cache(() => yes);
  await authority.review(token);
  t.equal(authority.review(token), yes);
});

t.test('a yes is asked about again after its time to live', async t => {
  const { authority, inner, clock } = cache(() => yes);
  await authority.review(token);
  clock.advance(10_000);
  await authority.review(token);
  t.equal(inner.asked.length, 1);
  clock.advance(1);
  await authority.review(token);
  t.equal(inner.asked.length, 2);
});

t.test('a no has a time to live of its own', async t => {
  const { authority, inner, clock, lookups } = cache(() => no);
  await authority.review(token);
  clock.advance(2000);
  t.equal(authority.review(token), no);
  clock.advance(1);
  await authority.review(token);
  t.equal(inner.asked.length, 2);
  t.strictSame(lookups, ['miss', 'hit_negative', 'miss']);
});

t.test('a yes is never kept past the token’s own end', async t => {
  const { authority, inner, clock } = cache(() => yes);
  const shortLived = unsignedJwt({ exp: EPOCH / 1000 + 4 });
  await authority.review(shortLived);
  clock.advance(3999);
  t.equal(authority.review(shortLived), yes);
  clock.advance(1);
  await authority.review(shortLived);
  t.equal(inner.asked.length, 2);
});

t.test('a token that ends later than the time to live is asked about again all the same', async t => {
  const { authority, inner, clock } = cache(() => yes);
  const longLived = unsignedJwt({ exp: EPOCH / 1000 + 365 * 86_400 });
  await authority.review(longLived);
  clock.advance(10_001);
  await authority.review(longLived);
  t.equal(inner.asked.length, 2);
});

t.test('a token that has ended but is still accepted, by leeway, is not kept at all', async t => {
  const { authority, inner, accepted } = cache(() => yes);
  for (const exp of [EPOCH / 1000 - 30, EPOCH / 1000]) {
    const ended = unsignedJwt({ exp });
    t.equal(await authority.review(ended), yes);
    t.equal(await authority.review(ended), yes);
  }
  t.equal(inner.asked.length, 4);
  t.equal(accepted.size, 0);
});

t.test('an end that is a fraction of a second, or absurd, is taken as it is', async t => {
  const { authority, inner, clock } = cache(() => yes);
  const fraction = unsignedJwt({ exp: EPOCH / 1000 + 1.5 });
  const absurd = unsignedJwt({ exp: Number.MAX_SAFE_INTEGER });
  const text = unsignedJwt({ exp: 'tomorrow' });
  for (const one of [fraction, absurd, text]) await authority.review(one);
  clock.advance(1400);
  for (const one of [fraction, absurd, text]) t.equal(authority.review(one), yes);
  clock.advance(200);
  await authority.review(fraction);
  t.equal(inner.asked.length, 4);
});

t.test('a token’s end is compared with the real time unless another is given', async t => {
  const inner = scriptedAuthority(() => yes);
  const stores = {
    accepted: verdictStore<Accepted>({ maxEntries: 9 }),
    refused: verdictStore<Refused>({ maxEntries: 9 }),
  };
  const times = { ttlMs: 600_000, negativeTtlMs: 2000, reviewTimeoutMs: 3000 };
  const authority = cached(inner, { key: cacheKeys([]), ...stores, ...times });
  const ended = unsignedJwt({ exp: Date.now() / 1000 - 1 });
  const fresh = unsignedJwt({ exp: Date.now() / 1000 + 3600 });
  for (const one of [ended, ended, fresh, fresh]) await authority.review(one);
  t.equal(inner.asked.length, 3);
});

t.test('with a time to live of 0 nothing is kept, and whoever asks at the same time still shares', async t => {
  for (const verdict of [yes, no]) {
    const { authority, inner, accepted, refused } = cache(undefined, { ttlMs: 0, negativeTtlMs: 0 });
    for (let round = 0; round < 3; round += 1) {
      const requests = [authority.review(token), authority.review(token)];
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
    for (const one of [token, token, bad, bad]) await authority.review(one);
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
  const requests = [authority.review(token), authority.review(token)];
  inner.asked[0]?.answer(outage);
  t.strictSame(await Promise.all(requests), [outage, outage]);
  t.equal(accepted.size + refused.size, 0);

  const next = authority.review(token);
  inner.asked[1]?.answer(yes);
  t.equal(await next, yes);
});

t.test('a no replaces a yes, and a yes a no, whatever their times to live', async t => {
  let verdict: Verdict = yes;
  const { authority, clock, accepted, refused } = cache(() => verdict, { ttlMs: 1000, negativeTtlMs: 1000 });
  await authority.review(token);
  t.match([accepted.size, refused.size], [1, 0]);
  for (const next of [no, yes, no]) {
    verdict = next;
    clock.advance(1001);
    t.equal(await authority.review(token), next);
    t.equal(authority.review(token), next);
    t.match([accepted.size, refused.size], next === yes ? [1, 0] : [0, 1]);
  }
});

t.test('a verdict that came to be stored during a review gives way to the review’s own', async t => {
  for (const [stored, verdict] of [
    [yes, no],
    [no, yes],
  ] as const) {
    const { authority, inner, accepted, refused } = cache();
    const review = authority.review(token);
    if (stored === yes) accepted.set(key(token), yes, 60_000);
    else refused.set(key(token), no, 60_000);
    inner.asked[0]?.answer(verdict);
    await review;
    t.equal(authority.review(token), verdict);
    t.equal(accepted.size + refused.size, 1);
  }
});

t.test('a no ends a yes even where a no is not kept', async t => {
  const { authority, inner, accepted } = cache(undefined, { negativeTtlMs: 0 });
  const review = authority.review(token);
  accepted.set(key(token), yes, 60_000);
  inner.asked[0]?.answer(no);
  await review;
  t.equal(accepted.size, 0);
});

t.test('an outage leaves what is known in place', async t => {
  const { authority, inner, accepted } = cache();
  const review = authority.review(token);
  accepted.set(key(token), yes, 60_000);
  inner.asked[0]?.answer(outage);
  await review;
  t.equal(authority.review(token), yes);
});

t.test('a review past its deadline is a timeout for all who wait, and its answer is not remembered', async t => {
  const { authority, inner, accepted, refused } = cache(undefined, { reviewTimeoutMs: 50 });
  const requests = [authority.review(token), authority.review(token)];
  t.strictSame(await Promise.all(requests), [unavailable('timeout'), unavailable('timeout')]);
  t.equal(inner.asked[0]?.signal?.aborted, true);

  const late = inner.asked[0];
  const next = authority.review(token);
  inner.asked[1]?.answer(no);
  t.equal(await next, no);
  late?.answer(yes);
  await new Promise(resolve => setImmediate(resolve));
  t.equal(authority.review(token), no, 'the late yes does not replace the newer no');
  t.match([accepted.size, refused.size], [0, 1]);
});

t.test('one caller’s leaving changes nothing for the others', async t => {
  const { authority, inner } = cache();
  const leaving = new AbortController();
  const first = authority.review(token, { signal: leaving.signal });
  const second = authority.review(token);
  leaving.abort();
  t.equal(inner.asked[0]?.signal?.aborted, false, 'the review has a signal of its own');
  inner.asked[0]?.answer(yes);
  t.strictSame(await Promise.all([first, second]), [yes, yes]);
  t.equal(authority.review(token), yes);
});

t.test('nobody has to be told of look-ups', async t => {
  const stores = {
    accepted: verdictStore<Accepted>({ maxEntries: 9 }),
    refused: verdictStore<Refused>({ maxEntries: 9 }),
  };
  const times = { ttlMs: 1000, negativeTtlMs: 1000, reviewTimeoutMs: 1000 };
  const authority = cached(
    scriptedAuthority(() => yes),
    { key: cacheKeys([]), ...stores, ...times },
  );
  t.equal(await authority.review(token), yes);
});
