import t from 'tap';
import { TurnQueue } from '../../src/gateway/turn-queue.ts';

function setUp(perTurn: number) {
  const turns: (() => void)[] = [];
  const done: string[] = [];
  const queue = new TurnQueue(perTurn, callback => turns.push(callback));
  return {
    turns,
    done,
    add: (name: string, isNeeded = true) =>
      queue.add(() => {
        if (isNeeded) done.push(name);
        return isNeeded;
      }),
    queue,
    /** @returns the names of the tasks run in the next turn. */
    nextTurn(): string {
      done.length = 0;
      for (const callback of turns.splice(0)) callback();
      return done.join('');
    },
  };
}

t.test('each turn runs a limited number of tasks, in the order in which they were added', async t => {
  const { add, done, turns, nextTurn } = setUp(2);
  for (const name of 'abcde') add(name);
  t.strictSame(done, [], 'no task runs in the turn in which it was added');
  t.equal(turns.length, 1);
  t.equal(nextTurn(), 'ab');
  add('f');
  t.equal(turns.length, 1);
  t.equal(nextTurn(), 'cd');
  t.equal(nextTurn(), 'ef');
  t.equal(turns.length, 0);
});

t.test('a task that is no longer needed does not count against the turn', async t => {
  const { add, nextTurn } = setUp(2);
  for (const name of 'abcdef') add(name, 'cef'.includes(name));
  t.equal(nextTurn(), 'ce');
  t.equal(nextTurn(), 'f');
});

t.test('a task added by a running task runs after all waiting tasks, in a later turn', async t => {
  const { add, queue, done, turns, nextTurn } = setUp(2);
  queue.add(() => {
    add('x');
    return done.push('a') > 0;
  });
  for (const name of 'bcd') add(name);
  t.equal(nextTurn(), 'ab');
  t.equal(turns.length, 1);
  t.equal(nextTurn(), 'cd');
  t.equal(nextTurn(), 'x');
  queue.add(() => {
    add('y');
    return true;
  });
  nextTurn();
  t.equal(nextTurn(), 'y');
  t.equal(turns.length, 0);
});

t.test('a turn queue runs its tasks in iterations of the event loop by default', async t => {
  const done: string[] = [];
  const queue = new TurnQueue(1);
  for (const name of 'ab') queue.add(() => done.push(name) > 0);
  await new Promise(resolve => setImmediate(resolve));
  t.strictSame(done, ['a']);
  await new Promise(resolve => setImmediate(resolve));
  t.strictSame(done, ['a', 'b']);
});
