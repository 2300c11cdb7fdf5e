import t from 'tap';
import { prioritySemaphore } from '../../../src/authentication/queue/priority-semaphore.ts';
import type { Priority } from '../../../src/authentication/token-authenticator.ts';

function make({ limit = 8, maxQueue = 8, share = 1 / 4 } = {}) {
  const state = { limit, share };
  const all = prioritySemaphore({ limit: () => state.limit, maxQueue, unverifiedShare: () => state.share });
  const entered: string[] = [];
  const wait = (priority: Priority, name: string) => all.wait(priority, () => entered.push(name));
  const fill = (priority: Priority): number => {
    let count = 0;
    while (all.enter(priority)) count += 1;
    return count;
  };
  return { all, state, entered, wait, fill };
}

t.test('tokens of unverified signature take no more than their share, whatever is free', async t => {
  const { all, fill } = make();
  t.equal(fill('unverified'), 2);
  t.equal(fill('verified'), 6, 'the rest is for the others');
  t.strictSame([all.inFlight('unverified'), all.inFlight('verified')], [2, 6]);
});

t.test('a share is one place at the least, and all places where there is nobody to keep them for', async t => {
  t.equal(make({ limit: 1 }).fill('unverified'), 1);
  const { state, fill } = make({ share: 1 });
  t.equal(fill('unverified'), 8);
  state.limit = 9;
  t.equal(fill('unverified'), 1, 'a limit that rises is heeded at once');
});

t.test(
  'of the places of its share the priority has as many as it is told, and keeps its room in the queue',
  async t => {
    let share = 0;
    const all = prioritySemaphore({
      limit: () => 16,
      maxQueue: 16,
      unverifiedShare: () => 1 / 4,
      unverifiedPlaces: most => {
        share = most;
        return 1;
      },
    });
    t.equal(all.enter('unverified'), true);
    t.equal(share, 4);
    t.equal(all.enter('unverified'), false);
    for (let count = 0; count < 4; count += 1) {
      t.equal(all.isFull('unverified'), false);
      all.wait('unverified', () => {});
    }
    t.equal(all.isFull('unverified'), true);
  },
);

t.test('a place goes to a verified token first, then to an unverified one, then to a renewal', async t => {
  const { all, entered, wait, fill } = make({ limit: 1 });
  fill('verified');
  wait('refresh', 'renewal');
  wait('unverified', 'junk');
  wait('verified', 'first');
  wait('verified', 'second');
  for (const priority of ['verified', 'verified', 'verified', 'unverified'] as const) all.leave(priority);
  t.strictSame(entered, ['first', 'second', 'junk', 'renewal']);
  t.equal(all.queued('verified') + all.queued('unverified') + all.queued('refresh'), 0);
});

t.test('a priority whose share is used up keeps nobody behind it waiting', async t => {
  const { all, entered, wait, fill } = make({ limit: 4 });
  fill('unverified');
  fill('verified');
  wait('unverified', 'junk');
  wait('refresh', 'renewal');
  all.leave('verified');
  t.strictSame(entered, ['renewal']);
  all.leave('unverified');
  t.strictSame(entered, ['renewal', 'junk']);
});

t.test('who comes later does not overtake who waits in the same priority', async t => {
  const { all, entered, wait, fill } = make({ limit: 2, share: 1 });
  fill('unverified');
  wait('unverified', 'first');
  wait('unverified', 'second')();
  wait('unverified', 'third');
  t.equal(all.enter('unverified'), false);
  all.leave('unverified');
  all.leave('unverified');
  t.strictSame(entered, ['first', 'third'], 'and who left is not called');
});

t.test('while held only verified tokens go in, and with the hold all go in that there is room for', async t => {
  const { all, entered, wait } = make({ limit: 8, share: 1 });
  all.hold(true);
  t.equal(all.enter('unverified'), false);
  t.equal(all.enter('refresh'), false);
  t.equal(all.enter('verified'), true);
  wait('unverified', 'a');
  wait('refresh', 'b');
  all.leave('verified');
  t.strictSame(entered, []);
  all.hold(false);
  t.strictSame(entered, ['a', 'b']);
});

t.test('unverified tokens fill a part of the queue, and renewals have one of their own', async t => {
  const { all, wait, fill } = make({ limit: 1, maxQueue: 8 });
  fill('verified');
  for (const name of ['a', 'b']) wait('unverified', name);
  t.equal(all.isFull('unverified'), true);
  t.equal(all.isFull('verified'), false);
  for (let at = 0; at < 6; at += 1) wait('verified', 'c');
  t.equal(all.isFull('verified'), true);
  t.equal(all.isFull('refresh'), false);
  for (let at = 0; at < 8; at += 1) wait('refresh', 'd');
  t.equal(all.isFull('refresh'), true);
});
