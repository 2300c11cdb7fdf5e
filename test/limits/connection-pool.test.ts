import t from 'tap';
import { ConnectionGroup, ConnectionPool, PooledConnection } from '../../src/limits/connection-pool.ts';
import { fakeClock } from '../fixtures/clock.ts';

function opener(pool: ConnectionPool, closed: string[], group: ConnectionGroup = new ConnectionGroup()) {
  return (name: string, isBusy = false): { connection: PooledConnection; isOpen: boolean } => {
    const connection = new PooledConnection(group, 10, () => closed.push(name));
    if (isBusy) connection.isBusy = () => true;
    return { connection, isOpen: pool.add(connection) };
  };
}

t.test('a connection that waits for its client gives way to a new one, the oldest first', async t => {
  const closed: string[] = [];
  const pool = new ConnectionPool(30);
  const open = opener(pool, closed);
  const first = open('first');
  open('second');
  open('third');
  pool.waitsNoMore(first.connection);
  t.ok(open('fourth').isOpen);
  t.strictSame(closed, ['second']);
  t.strictSame([pool.size, pool.budget.usedBytes], [3, 30]);
  pool.waits(first.connection);
  for (const name of ['fifth', 'sixth', 'seventh']) t.ok(open(name).isOpen);
  t.strictSame(closed, ['second', 'third', 'fourth', 'first'], 'one that waits again is the newest of those that wait');
});

t.test('a connection in use is never closed for a new one, which is rejected', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(20, { now: clock.now });
  const open = opener(pool, closed);
  for (const name of ['first', 'second']) pool.waitsNoMore(open(name).connection);
  t.notOk(open('third').isOpen);
  t.strictSame([closed, pool.size], [[], 2]);
});

t.test('the connection that has been idle for longest gives way, if that is long, and none that is busy', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(40, { now: clock.now, minIdleMs: 30_000 });
  const open = opener(pool, closed);
  const [busy, active, idle, longIdle] = [open('busy', true), open('active'), open('idle'), open('long idle')];
  for (const { connection } of [busy, active, idle, longIdle]) pool.waitsNoMore(connection);
  clock.advance(40_000);
  active.connection.activeAtMs = clock.now();
  idle.connection.activeAtMs = clock.now() - 30_000;
  t.ok(open('new').isOpen);
  t.strictSame(closed, ['long idle']);
  clock.advance(1);
  pool.waitsNoMore([open('newer').connection][0] as PooledConnection);
  t.strictSame(closed, ['long idle', 'new'], 'first those that wait for their client');
  t.ok(open('newest').isOpen);
  t.strictSame(closed, ['long idle', 'new', 'idle']);
});

t.test('looking for an idle connection in vain is not repeated for every new connection', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(10, { now: clock.now, minIdleMs: 0 });
  const open = opener(pool, closed);
  const { connection } = open('busy', true);
  pool.waitsNoMore(connection);
  t.notOk(open('rejected').isOpen);
  connection.isBusy = () => false;
  t.notOk(open('rejected').isOpen);
  clock.advance(1_000);
  t.ok(open('authenticated').isOpen);
  t.strictSame(closed, ['busy']);
});

t.test('a closed connection is forgotten once, and does not wait any more', async t => {
  const pool = new ConnectionPool(20);
  const { connection } = opener(pool, [])('one');
  pool.remove(connection);
  pool.remove(connection);
  pool.waits(connection);
  t.strictSame([pool.size, pool.budget.usedBytes, pool.closeOneHolding()], [0, 0, false]);
});

t.test('a record of a connection is idle until it is told otherwise', async t => {
  t.equal(new PooledConnection(new ConnectionGroup(), 1, () => {}).isBusy(), false);
});

t.test('a group that is full closes its own connections for a new one, and no others', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(1000, { now: clock.now, minIdleMs: 30_000 });
  const group = new ConnectionGroup(2);
  const [open, openOther] = [opener(pool, closed, group), opener(pool, closed)];
  const other = openOther('other').connection;
  const first = open('first').connection;
  open('second');
  pool.waitsNoMore(first);
  t.ok(open('third').isOpen);
  t.strictSame(closed, ['second']);
  for (const connection of [other, first]) pool.waitsNoMore(connection);
  clock.advance(1);
  pool.waitsNoMore(open('fourth').connection);
  t.notOk(open('fifth').isOpen, 'neither is one of them idle for long, nor does one wait');
  clock.advance(30_000);
  t.ok(open('sixth').isOpen);
  t.strictSame(closed, ['second', 'third', 'first'], 'the other has been idle for longer');
  t.strictSame([pool.size, group.size, pool.budget.usedBytes], [3, 2, 30]);
});

t.test('of all groups, the connection that has waited longest gives way when there is no room in all', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(30, { now: clock.now });
  const [open, openOther] = [opener(pool, closed), opener(pool, closed)];
  for (const [name, add] of [
    ['a', openOther],
    ['b', open],
    ['c', openOther],
    ['d', open],
    ['e', open],
  ] as const) {
    clock.advance(1);
    add(name);
  }
  t.strictSame(closed, ['a', 'b']);
});

t.test(
  'the connection that has held bytes for longest gives way to other bytes, and none that holds nothing',
  async t => {
    const closed: string[] = [];
    const pool = new ConnectionPool(100);
    const open = opener(pool, closed);
    const [first, second, third] = ['first', 'second', 'third'].map(name => open(name).connection) as [
      PooledConnection,
      PooledConnection,
      PooledConnection,
    ];
    for (const connection of [third, first, second]) pool.holds(connection);
    pool.holdsNoMore(third);
    t.strictSame([pool.closeOneHolding(), pool.closeOneHolding(), pool.closeOneHolding()], [true, true, false]);
    t.strictSame(closed, ['first', 'second']);
  },
);
