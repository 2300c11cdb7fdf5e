import t from 'tap';
import { aimdLimit } from '../../../src/authentication/queue/adaptive-concurrency.ts';
import { fakeClock } from '../../fixtures/clock.ts';

t.test('each wave of 429 responses halves the limit once, to at least one', async t => {
  const clock = fakeClock();
  const limit = aimdLimit(32, clock.now);
  t.equal(limit.current, 32);
  clock.advance(10);
  limit.onThrottled(1);
  limit.onThrottled(5);
  limit.onThrottled(11);
  t.equal(limit.current, 16, 'reviews in flight when the limit fell belong to the same wave');
  for (let wave = 0; wave < 9; wave += 1) {
    clock.advance(1);
    limit.onThrottled(clock.now());
  }
  t.equal(limit.current, 1);
});

t.test('as many successes as the limit raise it by one, up to the maximum', async t => {
  const clock = fakeClock();
  const limit = aimdLimit(8, clock.now);
  clock.advance(1);
  limit.onThrottled(clock.now());
  t.equal(limit.current, 4);
  for (let success = 0; success < 5; success += 1) limit.onSuccess();
  t.equal(limit.current, 5);
  for (let success = 0; success < 1000; success += 1) limit.onSuccess();
  t.equal(limit.current, 8);
});
