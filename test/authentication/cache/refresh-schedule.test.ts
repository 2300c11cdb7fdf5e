import t from 'tap';
import { cacheLifetime, refreshTime } from '../../../src/authentication/cache/refresh-schedule.ts';

const base = {
  startedAt: 1000,
  ttlMs: 10_000,
  tokenLifetimeMs: Number.POSITIVE_INFINITY,
  cacheRefreshAhead: true,
};

t.test('a result is renewed when it is used in the last fifth of its life, at a time that differs', async t => {
  const life = cacheLifetime(base);
  t.strictSame(life, { freshUntil: 11_000, renewFrom: 9000 });
  t.equal(Math.round(refreshTime(life, 0)), 9800);
  t.equal(Math.round(refreshTime(life, 1)), 10_800);
  t.equal(Math.round(refreshTime(life, 0.5)), 10_300);
});

t.test('a thousand results in constant use ask less than a tenth more often than their end would', async t => {
  let asked = 0;
  for (let verdict = 0; verdict < 1000; verdict += 1) {
    let time = 0;
    while (time < 100_000) {
      asked += 1;
      time = refreshTime(cacheLifetime({ ...base, startedAt: time }), Math.random());
    }
  }
  t.ok(asked <= 1000 * 10 * 1.1 + 1000, `${asked}`);
});

t.test('a token that ends before its result would is fresh to its end and not renewed', async t => {
  for (const [tokenLifetimeMs, freshUntil] of [
    [4000, 5000],
    [10_000, 11_000],
  ] as const) {
    const life = cacheLifetime({ ...base, tokenLifetimeMs });
    t.equal(life.freshUntil, freshUntil);
    t.ok(life.renewFrom > life.freshUntil);
  }
});

t.test('off means never', async t => {
  const life = cacheLifetime({ ...base, cacheRefreshAhead: false });
  t.equal(life.freshUntil, 11_000);
  t.ok(life.renewFrom > life.freshUntil);
});

t.test('a life is told in whole milliseconds, and is never longer for it', async t => {
  t.strictSame(cacheLifetime({ ...base, startedAt: 1000.9 }), { freshUntil: 11_000, renewFrom: 9000 });
  t.equal(cacheLifetime({ ...base, tokenLifetimeMs: 4000.5 }).freshUntil, 5000);
});
