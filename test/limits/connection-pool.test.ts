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

t.test('a full pool closes connections that wait for their client, the oldest first', async t => {
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
  t.strictSame(closed, ['second', 'third', 'fourth', 'first'], 'a connection that waits again counts as the newest');
});

t.test('a pool full of connections in use rejects a new one', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(20, { now: clock.now });
  const open = opener(pool, closed);
  for (const name of ['first', 'second']) pool.waitsNoMore(open(name).connection);
  t.notOk(open('third').isOpen);
  t.strictSame([closed, pool.size], [[], 2]);
});

t.test('a full pool closes the connection idle for longest, beyond a minimum, and never a busy one', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(40, { now: clock.now, minIdleMs: 30_000 });
  const open = opener(pool, closed);
  const [busy, active, idle, longestIdle] = [open('busy', true), open('active'), open('idle'), open('longest idle')];
  for (const { connection } of [busy, active, idle, longestIdle]) pool.waitsNoMore(connection);
  clock.advance(40_000);
  active.connection.activeAtMs = clock.now();
  idle.connection.activeAtMs = clock.now() - 30_000;
  t.ok(open('new').isOpen);
  t.strictSame(closed, ['longest idle']);
  clock.advance(1);
  pool.waitsNoMore(open('newer').connection);
  t.strictSame(closed, ['longest idle', 'new'], 'connections that wait for their client are closed first');
  t.ok(open('newest').isOpen);
  t.strictSame(closed, ['longest idle', 'new', 'idle']);
});

t.test('a failed search for an idle connection is not repeated for every new connection', async t => {
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

t.test('removing a connection twice releases it once, and it no longer waits', async t => {
  const pool = new ConnectionPool(20);
  const { connection } = opener(pool, [])('removed');
  pool.remove(connection);
  pool.remove(connection);
  pool.waits(connection);
  t.strictSame([pool.size, pool.budget.usedBytes, pool.closeOneHolding()], [0, 0, false]);
});

t.test('a pooled connection is not busy by default', async t => {
  t.equal(new PooledConnection(new ConnectionGroup(), 1, () => {}).isBusy(), false);
});

t.test('a full group closes only connections of its own for a new one', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(1000, { now: clock.now, minIdleMs: 30_000 });
  const group = new ConnectionGroup(2);
  const [open, openUngrouped] = [opener(pool, closed, group), opener(pool, closed)];
  const ungrouped = openUngrouped('ungrouped').connection;
  const first = open('first').connection;
  open('second');
  pool.waitsNoMore(first);
  t.ok(open('third').isOpen);
  t.strictSame(closed, ['second']);
  for (const connection of [ungrouped, first]) pool.waitsNoMore(connection);
  clock.advance(1);
  pool.waitsNoMore(open('fourth').connection);
  t.notOk(open('fifth').isOpen, 'no connection of the group is idle for long enough or waits for its client');
  clock.advance(30_000);
  t.ok(open('sixth').isOpen);
  t.strictSame(
    closed,
    ['second', 'third', 'first'],
    'the ungrouped connection stays, although it has been idle for longer',
  );
  t.strictSame([pool.size, group.size, pool.budget.usedBytes], [3, 2, 30]);
});

t.test('a full pool closes the connection that has waited longest in any group', async t => {
  const clock = fakeClock();
  const closed: string[] = [];
  const pool = new ConnectionPool(30, { now: clock.now });
  const [openFirst, openSecond] = [opener(pool, closed), opener(pool, closed)];
  for (const [name, add] of [
    ['a', openSecond],
    ['b', openFirst],
    ['c', openSecond],
    ['d', openFirst],
    ['e', openFirst],
  ] as const) {
    clock.advance(1);
    add(name);
  }
  t.strictSame(closed, ['a', 'b']);
});

t.test('the connection that has held bytes for longest is closed first, and none that holds nothing', async t => {
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
});
