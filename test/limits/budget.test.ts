import t from 'tap';
import { Budget } from '../../src/limits/budget.ts';

t.test('bytes are reserved up to the limit and no further', async t => {
  const budget = new Budget(100);
  t.ok(budget.tryReserve(60));
  t.notOk(budget.tryReserve(41));
  t.equal(budget.usedBytes, 60, 'nothing is reserved by a reservation that fails');
  t.ok(budget.tryReserve(40));
  t.equal(budget.usedBytes, budget.limitBytes);
});

t.test('released bytes are free again', async t => {
  const budget = new Budget(100);
  t.ok(budget.tryReserve(100));
  budget.release(30);
  t.ok(budget.tryReserve(30));
  t.notOk(budget.tryReserve(1));
});

t.test('a part of the bytes is only for clients with an allowed request', async t => {
  const budget = new Budget(100, { allowedOnlyShare: 0.25 });
  t.ok(budget.tryReserve(75));
  t.notOk(budget.tryReserve(1));
  t.ok(budget.tryReserve(25, true));
  t.notOk(budget.tryReserve(1, true));
  t.ok(budget.tryReserve(-10), 'those that hold less than before need no room');
  t.equal(budget.usedBytes, 90);
});
