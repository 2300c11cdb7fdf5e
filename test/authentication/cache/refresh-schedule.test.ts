import t from 'tap';
import { cacheLifetime, refreshTime } from '../../../src/authentication/cache/refresh-schedule.ts';

const base = {
  startedAt: 1000,
  ttlMs: 10_000,
  tokenLifetimeMs: Number.POSITIVE_INFINITY,
  cacheRefreshAhead: true,
};

t.test('a result used in the last fifth of its TTL is refreshed at a random time', async t => {
  const lifetime = cacheLifetime(base);
  t.strictSame(lifetime, { freshUntil: 11_000, refreshAfter: 9000 });
  t.equal(Math.round(refreshTime(lifetime, 0)), 9800);
  t.equal(Math.round(refreshTime(lifetime, 1)), 10_800);
  t.equal(Math.round(refreshTime(lifetime, 0.5)), 10_300);
});

t.test('refreshing 1,000 results in constant use adds less than 10 % to the reviews', async t => {
  let reviews = 0;
  for (let result = 0; result < 1000; result += 1) {
    let time = 0;
    while (time < 100_000) {
      reviews += 1;
      time = refreshTime(cacheLifetime({ ...base, startedAt: time }), Math.random());
    }
  }
  t.ok(reviews <= 1000 * 10 * 1.1 + 1000, `${reviews}`);
});

t.test('a token that expires before its TTL is fresh until then and is not refreshed', async t => {
  for (const [tokenLifetimeMs, freshUntil] of [
    [4000, 5000],
    [10_000, 11_000],
  ] as const) {
    const lifetime = cacheLifetime({ ...base, tokenLifetimeMs });
    t.equal(lifetime.freshUntil, freshUntil);
    t.ok(lifetime.refreshAfter > lifetime.freshUntil);
  }
});

t.test('results are never refreshed if cacheRefreshAhead is off', async t => {
  const lifetime = cacheLifetime({ ...base, cacheRefreshAhead: false });
  t.equal(lifetime.freshUntil, 11_000);
  t.ok(lifetime.refreshAfter > lifetime.freshUntil);
});

t.test('a cache lifetime is rounded down to whole milliseconds', async t => {
  t.strictSame(cacheLifetime({ ...base, startedAt: 1000.9 }), { freshUntil: 11_000, refreshAfter: 9000 });
  t.equal(cacheLifetime({ ...base, tokenLifetimeMs: 4000.5 }).freshUntil, 5000);
});
