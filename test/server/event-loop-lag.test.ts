import t from 'tap';
import { eventLoopLag } from '../../src/server/event-loop-lag.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { until } from '../fixtures/until.ts';

/** Measures lag by a fake clock. `tick` waits for the timer, which reads the clock. */
function ticking() {
  const clock = fakeClock();
  let reads = 0;
  const lag = eventLoopLag(() => {
    reads += 1;
    return clock.now();
  });
  const tick = async () => {
    const before = reads;
    await until(() => reads > before);
  };
  return { clock, lag, tick };
}

t.test('a single long pause is not event loop lag', async t => {
  const { clock, lag, tick } = ticking();
  t.teardown(() => lag.stop());
  t.equal(lag.current(), 0);
  clock.advance(2020);
  t.equal(lag.current(), 0, 'no lag during the pause');
  await tick();
  t.equal(lag.current(), 0, 'no lag after the pause');
});

t.test('an event loop that is late twice in a row lags, even before an overdue timer has fired', async t => {
  const { clock, lag, tick } = ticking();
  t.teardown(() => lag.stop());
  lag.current();
  clock.advance(320);
  await tick();
  clock.advance(420);
  t.equal(lag.current(), 300, 'the smaller delay of both rounds');
  await tick();
  t.equal(lag.current(), 300);
  clock.advance(20);
  await tick();
  await tick();
  t.equal(lag.current(), 0, 'no lag after a round in time');
});

t.test('event loop lag uses the real clock by default', async t => {
  const lag = eventLoopLag();
  t.teardown(() => lag.stop());
  while (lag.current() < 30) {
    const start = performance.now();
    while (performance.now() - start < 60) {}
    await new Promise(resolve => setTimeout(resolve));
  }
  t.pass();
});
