import t from 'tap';
import { Budget } from '../../src/limits/budget.ts';

t.test('a budget reserves bytes up to its limit', async t => {
  const budget = new Budget(100);
  t.ok(budget.tryReserve(60));
  t.notOk(budget.tryReserve(41));
  t.equal(budget.usedBytes, 60, 'a failed reservation reserves nothing');
  t.ok(budget.tryReserve(40));
  t.equal(budget.usedBytes, budget.limitBytes);
});

t.test('released bytes can be reserved again', async t => {
  const budget = new Budget(100);
  t.ok(budget.tryReserve(100));
  budget.release(30);
  t.ok(budget.tryReserve(30));
  t.notOk(budget.tryReserve(1));
});

t.test('a share of a budget is reserved for clients with an allowed request', async t => {
  const budget = new Budget(100, { allowedOnlyShare: 0.25 });
  t.ok(budget.tryReserve(75));
  t.notOk(budget.tryReserve(1));
  t.ok(budget.tryReserve(25, true));
  t.notOk(budget.tryReserve(1, true));
  t.strictSame([budget.missingBytes(10), budget.missingBytes(10, true)], [35, 10]);
  t.ok(budget.tryReserve(-10), 'a negative reservation always succeeds');
  t.equal(budget.usedBytes, 90);
});
