import { getEventListeners } from 'node:events';
import t from 'tap';
import { createRejectionThrottle } from '../../src/authentication/rejection-throttle.ts';
import { fakeClock } from '../fixtures/clock.ts';

function start(atOnce: number, maxWaiting: number) {
  const clock = fakeClock();
  const timers: (() => void)[] = [];
  const waits: number[] = [];
  const pace = createRejectionThrottle({
    ...{ atOnce, everyMs: 4, maxWaiting, now: clock.now },
    setTimer(callback, ms) {
      waits.push(ms);
      timers.push(callback);
    },
  });
  const told: number[] = [];
  const ask = (name: number) => pace.waitForSlot()?.then(() => told.push(name));
  /** The next time that any are told. */
  const tick = async () => {
    timers.shift()?.();
    await new Promise(resolve => setImmediate(resolve));
  };
  return { pace, clock, timers, waits, told, ask, tick };
}

t.test('where no good token is asked about, nothing waits', async t => {
  const { ask, timers } = start(1, 10);
  for (let time = 0; time < 100; time += 1) t.equal(ask(time), undefined);
  t.equal(timers.length, 0);
});

t.test('beside good tokens, so many are told at once, first come, first served', async t => {
  const { pace, ask, tick, told, timers, waits } = start(2, 10);
  pace.noteValidTraffic();
  for (let name = 1; name <= 5; name += 1) t.ok(ask(name));
  t.equal(timers.length, 1, 'one timer for all');
  t.strictSame(told, []);
  await tick();
  t.strictSame(told, [1, 2]);
  await tick();
  t.strictSame(told, [1, 2, 3, 4]);
  await tick();
  t.strictSame(told, [1, 2, 3, 4, 5]);
  t.equal(timers.length, 0, 'and none that is left');
  t.strictSame(waits, [4, 4, 4]);
});

t.test('past the bound nothing waits', async t => {
  const { pace, ask } = start(1, 2);
  pace.noteValidTraffic();
  t.ok(ask(1));
  t.ok(ask(2));
  t.equal(ask(3), undefined);
});

t.test('a second after the last good token nothing waits any more, and who waits is still told', async t => {
  const { pace, ask, clock, tick, told } = start(1, 10);
  pace.noteValidTraffic();
  ask(1);
  clock.advance(999);
  t.equal(pace.protecting, true);
  ask(2);
  clock.advance(1);
  t.equal(pace.protecting, false);
  t.equal(ask(3), undefined);
  await tick();
  await tick();
  t.strictSame(told, [1, 2]);
});

t.test('a turn comes at its signal at the latest, leaves nothing behind, and hurries nobody else', async t => {
  const { pace, timers, tick } = start(1, 2);
  pace.noteValidTraffic();
  const told: string[] = [];
  const controller = new AbortController();
  const { signal } = controller;
  pace.waitForSlot(signal)?.then(() => told.push('late'));
  pace.waitForSlot()?.then(() => told.push('next'));
  t.equal(pace.waitForSlot(), undefined, 'two are all that may wait');
  controller.abort();
  await new Promise(resolve => setImmediate(resolve));
  t.strictSame(told, ['late']);
  t.equal(pace.waitForSlot(signal), undefined, 'what is over waits for nothing');
  pace.waitForSlot()?.then(() => told.push('last'));
  t.equal(timers.length, 1, 'still one timer for all');
  await tick();
  t.strictSame(told, ['late', 'next']);
  await tick();
  t.strictSame(told, ['late', 'next', 'last']);

  const other = new AbortController();
  pace.waitForSlot(other.signal)?.then(() => told.push('in time'));
  await tick();
  t.equal(told.at(-1), 'in time');
  t.equal(getEventListeners(other.signal, 'abort').length, 0);

  const alone = new AbortController();
  pace.waitForSlot(alone.signal);
  alone.abort();
  await tick();
  t.equal(timers.length, 0, 'nobody is left to tell');
});

t.test('real timers and the real clock are taken', async t => {
  const pace = createRejectionThrottle({ atOnce: 1, everyMs: 1, maxWaiting: 1 });
  pace.noteValidTraffic();
  const turn = pace.waitForSlot();
  // An unreferenced timer keeps no process alive.
  const alive = setInterval(() => {}, 1000);
  await turn;
  clearInterval(alive);
  t.ok(turn);
});
