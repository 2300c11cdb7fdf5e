import t from 'tap';
import { lifeOf } from '../../src/authority/renewal.ts';

const base = {
  startedAt: 1000,
  ttlMs: 10_000,
  tokenLifetimeMs: Number.POSITIVE_INFINITY,
  refreshAhead: true,
  jitter: 0,
};
const NEVER = Number.POSITIVE_INFINITY;

t.test('a verdict is renewed when it is used in the last fifth of its life, at a time that differs', async t => {
  t.strictSame(lifeOf(base), { freshUntil: 11_000, renewFrom: 9000, renewAt: 9800 });
  t.equal(Math.round(lifeOf({ ...base, jitter: 1 }).renewAt), 10_800);
  t.equal(Math.round(lifeOf({ ...base, jitter: 0.5 }).renewAt), 10_300);
});

t.test('a thousand verdicts in constant use ask less than a tenth more often than their end would', async t => {
  let asked = 0;
  for (let verdict = 0; verdict < 1000; verdict += 1) {
    let time = 0;
    while (time < 100_000) {
      asked += 1;
      time = lifeOf({ ...base, startedAt: time, jitter: Math.random() }).renewAt;
    }
  }
  t.ok(asked <= 1000 * 10 * 1.1 + 1000, `${asked}`);
});

t.test('a token that ends before its verdict would is fresh to its end and not renewed', async t => {
  t.strictSame(lifeOf({ ...base, tokenLifetimeMs: 4000 }), { freshUntil: 5000, renewFrom: NEVER, renewAt: NEVER });
  t.strictSame(lifeOf({ ...base, tokenLifetimeMs: 10_000 }), { freshUntil: 11_000, renewFrom: NEVER, renewAt: NEVER });
});

t.test('off means never', async t => {
  t.strictSame(lifeOf({ ...base, refreshAhead: false }), { freshUntil: 11_000, renewFrom: NEVER, renewAt: NEVER });
});
