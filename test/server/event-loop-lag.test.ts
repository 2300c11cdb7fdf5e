import t from 'tap';
import { eventLoopLag } from '../../src/server/event-loop-lag.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { until } from '../fixtures/until.ts';

/** The next time that the timer comes, as it can be told from a clock that says so. */
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

t.test('one long pause alone counts for nothing', async t => {
  const { clock, lag, tick } = ticking();
  t.teardown(() => lag.stop());
  t.equal(lag.current(), 0);
  clock.advance(2020);
  t.equal(lag.current(), 0, 'not while it lasts');
  await tick();
  t.equal(lag.current(), 0, 'nor after it');
});

t.test(
  'a loop that is late round after round is behind, and a timer that is overdue tells before it has come',
  async t => {
    const { clock, lag, tick } = ticking();
    t.teardown(() => lag.stop());
    lag.current();
    clock.advance(320);
    await tick();
    clock.advance(420);
    t.equal(lag.current(), 300, 'by what both rounds were late');
    await tick();
    t.equal(lag.current(), 300);
    clock.advance(20);
    await tick();
    await tick();
    t.equal(lag.current(), 0, 'until it comes round in time');
  },
);

t.test('the real clock is taken unless another is given', async t => {
  const lag = eventLoopLag();
  t.teardown(() => lag.stop());
  while (lag.current() < 30) {
    const start = performance.now();
    while (performance.now() - start < 60) {}
    await new Promise(resolve => setTimeout(resolve));
  }
  t.pass();
});
