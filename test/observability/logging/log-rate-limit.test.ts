import t from 'tap';
import { logRateLimiter } from '../../../src/observability/logging/log-rate-limit.ts';
import { fakeClock } from '../../fixtures/clock.ts';

function setUp(maxKinds = 10) {
  const clock = fakeClock();
  const summaries: [kind: string, suppressed: number][] = [];
  const limiter = logRateLimiter({
    burst: 2,
    windowMs: 100,
    maxKinds,
    onSummary: (kind, suppressed) => summaries.push([kind, suppressed]),
    now: clock.now,
  });
  return { clock, summaries, limiter };
}

t.test('the first lines of a kind pass, and the rest of the window is suppressed and counted', async t => {
  const { limiter, summaries, clock } = setUp();
  t.strictSame(
    [1, 2, 3, 4, 5].map(() => limiter.admit('a')),
    [true, true, false, false, false],
  );
  t.ok(limiter.admit('b') && limiter.admit('b'), 'another kind is not limited');
  limiter.sweep();
  t.strictSame(summaries, [], 'no summary before the window ends');
  clock.advance(100);
  limiter.sweep();
  t.strictSame(summaries, [['a', 3]], 'a kind without suppressed lines has no summary');
});

t.test('the first line after a window summarises it and starts a new one', async t => {
  const { limiter, summaries, clock } = setUp();
  for (let line = 0; line < 3; line += 1) limiter.admit('a');
  clock.advance(100);
  t.ok(limiter.admit('a'));
  t.strictSame(summaries, [['a', 1]]);
});

t.test('a kind that is evicted is summarised first', async t => {
  const { limiter, summaries } = setUp(1);
  for (let line = 0; line < 4; line += 1) limiter.admit('a');
  limiter.admit('b');
  t.strictSame(summaries, [['a', 2]]);
});

t.test('a final sweep summarises every kind', async t => {
  const { limiter, summaries } = setUp();
  for (let line = 0; line < 3; line += 1) limiter.admit('a');
  limiter.sweep(true);
  t.strictSame(summaries, [['a', 1]]);
});

t.test('log rate limits use the real clock by default', async t => {
  const limiter = logRateLimiter({ burst: 1, windowMs: 60_000, maxKinds: 1, onSummary: () => {} });
  t.strictSame([limiter.admit('a'), limiter.admit('a')], [true, false]);
});
