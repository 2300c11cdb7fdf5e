import { getEventListeners } from 'node:events';
import t from 'tap';
import { createRejectionThrottle } from '../../src/authentication/rejection-throttle.ts';
import { fakeClock } from '../fixtures/clock.ts';

function startThrottle(batchSize: number, maxWaiting: number) {
  const clock = fakeClock();
  const timers: (() => void)[] = [];
  const waits: number[] = [];
  const throttle = createRejectionThrottle({
    atOnce: batchSize,
    everyMs: 4,
    maxWaiting,
    now: clock.now,
    setTimer(callback, ms) {
      waits.push(ms);
      timers.push(callback);
    },
  });
  const released: number[] = [];
  const wait = (id: number) => throttle.waitForSlot()?.then(() => released.push(id));
  /** Fires the next timer, which releases a batch. */
  const tick = async () => {
    timers.shift()?.();
    await new Promise(resolve => setImmediate(resolve));
  };
  return { throttle, clock, timers, waits, released, wait, tick };
}

t.test('rejections are not throttled without valid traffic', async t => {
  const { wait, timers } = startThrottle(1, 10);
  for (let id = 0; id < 100; id += 1) t.equal(wait(id), undefined);
  t.equal(timers.length, 0);
});

t.test('during valid traffic, rejections are released in batches and in order of arrival', async t => {
  const { throttle, wait, tick, released, timers, waits } = startThrottle(2, 10);
  throttle.noteValidTraffic();
  for (let id = 1; id <= 5; id += 1) t.ok(wait(id));
  t.equal(timers.length, 1, 'one timer for all');
  t.strictSame(released, []);
  await tick();
  t.strictSame(released, [1, 2]);
  await tick();
  t.strictSame(released, [1, 2, 3, 4]);
  await tick();
  t.strictSame(released, [1, 2, 3, 4, 5]);
  t.equal(timers.length, 0, 'no timer is left');
  t.strictSame(waits, [4, 4, 4]);
});

t.test('rejections past the waiting limit are not throttled', async t => {
  const { throttle, wait } = startThrottle(1, 2);
  throttle.noteValidTraffic();
  t.ok(wait(1));
  t.ok(wait(2));
  t.equal(wait(3), undefined);
});

t.test('throttling ends one second after the last valid traffic, and waiting rejections are released', async t => {
  const { throttle, wait, clock, tick, released } = startThrottle(1, 10);
  throttle.noteValidTraffic();
  wait(1);
  clock.advance(999);
  t.equal(throttle.protecting, true);
  wait(2);
  clock.advance(1);
  t.equal(throttle.protecting, false);
  t.equal(wait(3), undefined);
  await tick();
  await tick();
  t.strictSame(released, [1, 2]);
});

t.test('an aborted signal releases only its own rejection and leaves no timer or listener', async t => {
  const { throttle, timers, tick } = startThrottle(1, 2);
  throttle.noteValidTraffic();
  const released: string[] = [];
  const cancelled = new AbortController();
  const { signal } = cancelled;
  throttle.waitForSlot(signal)?.then(() => released.push('late'));
  throttle.waitForSlot()?.then(() => released.push('next'));
  t.equal(throttle.waitForSlot(), undefined, 'the waiting limit of two is reached');
  cancelled.abort();
  await new Promise(resolve => setImmediate(resolve));
  t.strictSame(released, ['late']);
  t.equal(throttle.waitForSlot(signal), undefined, 'an aborted signal does not wait');
  throttle.waitForSlot()?.then(() => released.push('last'));
  t.equal(timers.length, 1, 'still one timer for all');
  await tick();
  t.strictSame(released, ['late', 'next']);
  await tick();
  t.strictSame(released, ['late', 'next', 'last']);

  const unused = new AbortController();
  throttle.waitForSlot(unused.signal)?.then(() => released.push('in time'));
  await tick();
  t.equal(released.at(-1), 'in time');
  t.equal(getEventListeners(unused.signal, 'abort').length, 0);

  const onlyWaiting = new AbortController();
  throttle.waitForSlot(onlyWaiting.signal);
  onlyWaiting.abort();
  await tick();
  t.equal(timers.length, 0, 'no rejection is left');
});

t.test('the rejection throttle uses real timers and the real clock by default', async t => {
  const throttle = createRejectionThrottle({ atOnce: 1, everyMs: 1, maxWaiting: 1 });
  throttle.noteValidTraffic();
  const slot = throttle.waitForSlot();
  // The throttle's timer is unreferenced and does not keep the process alive.
  const alive = setInterval(() => {}, 1000);
  await slot;
  clearInterval(alive);
  t.ok(slot);
});
