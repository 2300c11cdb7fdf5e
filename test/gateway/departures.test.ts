import t from 'tap';
import { COUNTED_OF, Departures, FEW, MAX_HELD, MAX_HELD_MS } from '../../src/gateway/departures.ts';

/** Turns that end when the test says so, and what was sent. */
function desk() {
  const ends: (() => void)[] = [];
  const sent: number[] = [];
  let made = 0;
  const departures = new Departures(callback => ends.push(callback));
  const add = (count: number, startedAt = 0): void => {
    for (let at = 0; at < count; at += 1) {
      const number = made;
      made += 1;
      departures.add({ startedAt, leave: () => sent.push(number) });
    }
  };
  const pass = (startedAt: number): void => departures.pass(startedAt);
  const endTurn = (): void => {
    for (const end of ends.splice(0)) end();
  };
  return { add, pass, endTurn, sent, ends };
}

/** As {@link desk}, in the turn after a dense one. */
function denseDesk() {
  const one = desk();
  one.add(COUNTED_OF + FEW);
  one.endTurn();
  one.sent.length = 0;
  return one;
}

t.test('where few come in a turn, each is sent at once, and few turns are counted', async t => {
  const { add, endTurn, sent, ends } = desk();
  for (let turn = 0; turn < 100; turn += 1) {
    add(FEW);
    t.equal(sent.length, (turn + 1) * FEW);
    t.ok(ends.length <= 1);
    endTurn();
  }
  let counted = 0;
  for (let turn = 0; turn < COUNTED_OF; turn += 1) {
    add(1);
    counted += ends.length;
    endTurn();
  }
  t.equal(counted, 1);
});

t.test('after a dense turn all are sent together at the end of theirs, in their order', async t => {
  const { add, endTurn, sent } = denseDesk();
  add(FEW + 1);
  t.strictSame(sent, []);
  endTurn();
  t.equal(sent.length, FEW + 1);
  t.strictSame(
    sent,
    sent.toSorted((one, other) => one - other),
  );
  add(1);
  t.equal(sent.length, FEW + 1, 'a dense turn again');
  endTurn();
  t.equal(sent.length, FEW + 2);
});

t.test('after a turn with few, each is sent at once again', async t => {
  const { add, endTurn, sent } = denseDesk();
  add(FEW);
  endTurn();
  sent.length = 0;
  add(1);
  t.equal(sent.length, 1);
});

t.test('none waits for more than a bounded amount of work', async t => {
  const { add, endTurn, sent } = denseDesk();
  add(1, 10);
  add(1, 10 + MAX_HELD_MS - 0.1);
  t.equal(sent.length, 0);
  add(1, 10 + MAX_HELD_MS);
  t.equal(sent.length, 3);
  add(1, 20);
  t.equal(sent.length, 3, 'and the next have a time of their own');
  endTurn();
  t.equal(sent.length, 4);
});

t.test('no more than a bounded number waits', async t => {
  const { add, sent } = denseDesk();
  add(MAX_HELD - 1);
  t.equal(sent.length, 0);
  add(1);
  t.equal(sent.length, MAX_HELD);
});

t.test('what else is begun in a turn does not make them wait longer', async t => {
  const { add, pass, sent } = denseDesk();
  pass(100);
  add(2, 100);
  pass(100 + MAX_HELD_MS - 0.1);
  t.equal(sent.length, 0);
  pass(100 + MAX_HELD_MS);
  t.equal(sent.length, 2);
  pass(200);
  t.equal(sent.length, 2);
});
