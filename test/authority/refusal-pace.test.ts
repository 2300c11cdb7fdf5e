import t from 'tap';
import { refusalPace } from '../../src/authority/refusal-pace.ts';
import { fakeClock } from '../fixtures/clock.ts';

function start(perMs: number, maxWaiting: number) {
  const clock = fakeClock();
  const timers: (() => void)[] = [];
  const pace = refusalPace({ perMs, maxWaiting, now: clock.now, setTimer: callback => timers.push(callback) });
  const told: number[] = [];
  const ask = (name: number) => pace.turn()?.then(() => told.push(name));
  /** The next millisecond. */
  const tick = async () => {
    timers.shift()?.();
    await new Promise(resolve => setImmediate(resolve));
  };
  return { pace, clock, timers, told, ask, tick };
}

t.test('where no good token is asked about, nothing waits', async t => {
  const { ask, timers } = start(1, 10);
  for (let time = 0; time < 100; time += 1) t.equal(ask(time), undefined);
  t.equal(timers.length, 0);
});

t.test('beside good tokens, so many are told in a millisecond, first come, first served', async t => {
  const { pace, ask, tick, told, timers } = start(2, 10);
  pace.good();
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
});

t.test('past the bound nothing waits', async t => {
  const { pace, ask } = start(1, 2);
  pace.good();
  t.ok(ask(1));
  t.ok(ask(2));
  t.equal(ask(3), undefined);
});

t.test('a second after the last good token nothing waits any more, and who waits is still told', async t => {
  const { pace, ask, clock, tick, told } = start(1, 10);
  pace.good();
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

t.test('real timers and the real clock are taken', async t => {
  const pace = refusalPace({ perMs: 1, maxWaiting: 1 });
  pace.good();
  const turn = pace.turn();
  // An unreferenced timer keeps no process alive.
  const alive = setInterval(() => {}, 1000);
  await turn;
  clearInterval(alive);
  t.ok(turn);
});
