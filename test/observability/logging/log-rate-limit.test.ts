import t, { type Test } from 'tap';
import { logRateLimiter } from '../../../src/observability/logging/log-rate-limit.ts';
import { fakeClock } from '../../fixtures/clock.ts';

function gateOf(_t: Test, maxKinds = 10) {
  const clock = fakeClock();
  const told: [kind: string, suppressed: number][] = [];
  const gate = logRateLimiter({
    burst: 2,
    windowMs: 100,
    maxKinds,
    onSummary: (kind, suppressed) => told.push([kind, suppressed]),
    now: clock.now,
  });
  return { clock, told, gate };
}

t.test('the first lines of a kind pass and the rest of its window is counted', async t => {
  const { gate, told, clock } = gateOf(t);
  t.strictSame(
    [1, 2, 3, 4, 5].map(() => gate.admit('a')),
    [true, true, false, false, false],
  );
  t.ok(gate.admit('b') && gate.admit('b'), 'another kind is not held back');
  gate.sweep();
  t.strictSame(told, [], 'nothing is told before the window ends');
  clock.advance(100);
  gate.sweep();
  t.strictSame(told, [['a', 3]], 'a kind that was not held back has no summary');
});

t.test('a line after its window opens a new one, and tells of the old', async t => {
  const { gate, told, clock } = gateOf(t);
  for (let line = 0; line < 3; line += 1) gate.admit('a');
  clock.advance(100);
  t.ok(gate.admit('a'));
  t.strictSame(told, [['a', 1]]);
});

t.test('a kind that is pushed out by others has its count told first', async t => {
  const { gate, told } = gateOf(t, 1);
  for (let line = 0; line < 4; line += 1) gate.admit('a');
  gate.admit('b');
  t.strictSame(told, [['a', 2]]);
});

t.test('at the end all counts are told', async t => {
  const { gate, told } = gateOf(t);
  for (let line = 0; line < 3; line += 1) gate.admit('a');
  gate.sweep(true);
  t.strictSame(told, [['a', 1]]);
});

t.test('the production clock moves by itself', async t => {
  const gate = logRateLimiter({ burst: 1, windowMs: 60_000, maxKinds: 1, onSummary: () => {} });
  t.strictSame([gate.admit('a'), gate.admit('a')], [true, false]);
});
