import t from 'tap';
import { aimdLimit } from '../../../src/authentication/queue/adaptive-concurrency.ts';
import { fakeClock } from '../../fixtures/clock.ts';

t.test('each wave of "too_many_requests" halves the limit, once, and never below one', async t => {
  const clock = fakeClock();
  const limit = aimdLimit(32, clock.now);
  t.equal(limit.current, 32);
  clock.advance(10);
  limit.onThrottled(1);
  limit.onThrottled(5);
  limit.onThrottled(11);
  t.equal(limit.current, 16, 'what was under way when it fell belongs to the same wave');
  for (let wave = 0; wave < 9; wave += 1) {
    clock.advance(1);
    limit.onThrottled(clock.now());
  }
  t.equal(limit.current, 1);
});

t.test('as many answers as are allowed at once raise it by one, up to the highest', async t => {
  const clock = fakeClock();
  const limit = aimdLimit(8, clock.now);
  clock.advance(1);
  limit.onThrottled(clock.now());
  t.equal(limit.current, 4);
  for (let answer = 0; answer < 5; answer += 1) limit.onSuccess();
  t.equal(limit.current, 5);
  for (let answer = 0; answer < 1000; answer += 1) limit.onSuccess();
  t.equal(limit.current, 8);
});
