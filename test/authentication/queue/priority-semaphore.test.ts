import t from 'tap';
import { prioritySemaphore } from '../../../src/authentication/queue/priority-semaphore.ts';
import type { Priority } from '../../../src/authentication/token-authenticator.ts';

function setUp({ limit = 8, maxQueue = 8, share = 1 / 4 } = {}) {
  const state = { limit, share };
  const semaphore = prioritySemaphore({ limit: () => state.limit, maxQueue, unverifiedShare: () => state.share });
  const admitted: string[] = [];
  const wait = (priority: Priority, name: string) => semaphore.enqueue(priority, () => admitted.push(name));
  const fill = (priority: Priority): number => {
    let count = 0;
    while (semaphore.tryAcquire(priority)) count += 1;
    return count;
  };
  return { semaphore, state, admitted, wait, fill };
}

t.test('unverified tokens take at most their share of slots, even if others are free', async t => {
  const { semaphore, fill } = setUp();
  t.equal(fill('unverified'), 2);
  t.equal(fill('verified'), 6, 'the rest is left for verified tokens');
  t.strictSame([semaphore.inFlight('unverified'), semaphore.inFlight('verified')], [2, 6]);
});

t.test('a share is at least one slot, and a share of 1 is all slots', async t => {
  t.equal(setUp({ limit: 1 }).fill('unverified'), 1);
  const { state, fill } = setUp({ share: 1 });
  t.equal(fill('unverified'), 8);
  state.limit = 9;
  t.equal(fill('unverified'), 1, 'a raised limit applies immediately');
});

t.test('unverified capacity follows the unverifiedSlots callback, and its queue share is unchanged', async t => {
  let share = 0;
  const semaphore = prioritySemaphore({
    limit: () => 16,
    maxQueue: 16,
    unverifiedShare: () => 1 / 4,
    unverifiedSlots: maxSlots => {
      share = maxSlots;
      return 1;
    },
  });
  t.equal(semaphore.tryAcquire('unverified'), true);
  t.equal(share, 4);
  t.equal(semaphore.tryAcquire('unverified'), false);
  for (let count = 0; count < 4; count += 1) {
    t.equal(semaphore.isFull('unverified'), false);
    semaphore.enqueue('unverified', () => {});
  }
  t.equal(semaphore.isFull('unverified'), true);
});

t.test('a free slot goes to a verified token first, then to an unverified one, then to a refresh', async t => {
  const { semaphore, admitted, wait, fill } = setUp({ limit: 1 });
  fill('verified');
  wait('refresh', 'refresh');
  wait('unverified', 'unverified');
  wait('verified', 'first');
  wait('verified', 'second');
  for (const priority of ['verified', 'verified', 'verified', 'unverified'] as const) semaphore.release(priority);
  t.strictSame(admitted, ['first', 'second', 'unverified', 'refresh']);
  t.equal(semaphore.queued('verified') + semaphore.queued('unverified') + semaphore.queued('refresh'), 0);
});

t.test('a priority at its share does not block waiting reviews of lower priority', async t => {
  const { semaphore, admitted, wait, fill } = setUp({ limit: 4 });
  fill('unverified');
  fill('verified');
  wait('unverified', 'unverified');
  wait('refresh', 'refresh');
  semaphore.release('verified');
  t.strictSame(admitted, ['refresh']);
  semaphore.release('unverified');
  t.strictSame(admitted, ['refresh', 'unverified']);
});

t.test('waiting reviews of one priority are admitted in order of arrival', async t => {
  const { semaphore, admitted, wait, fill } = setUp({ limit: 2, share: 1 });
  fill('unverified');
  wait('unverified', 'first');
  wait('unverified', 'second')();
  wait('unverified', 'third');
  t.equal(semaphore.tryAcquire('unverified'), false);
  semaphore.release('unverified');
  semaphore.release('unverified');
  t.strictSame(admitted, ['first', 'third'], 'a review that left the queue is not admitted');
});

t.test(
  'while paused, only verified tokens get slots; after the pause, waiting reviews fill the free slots',
  async t => {
    const { semaphore, admitted, wait } = setUp({ limit: 8, share: 1 });
    semaphore.pauseLowPriority(true);
    t.equal(semaphore.tryAcquire('unverified'), false);
    t.equal(semaphore.tryAcquire('refresh'), false);
    t.equal(semaphore.tryAcquire('verified'), true);
    wait('unverified', 'a');
    wait('refresh', 'b');
    semaphore.release('verified');
    t.strictSame(admitted, []);
    semaphore.pauseLowPriority(false);
    t.strictSame(admitted, ['a', 'b']);
  },
);

t.test('unverified tokens may fill only their share of the queue, and refreshes have a separate queue', async t => {
  const { semaphore, wait, fill } = setUp({ limit: 1, maxQueue: 8 });
  fill('verified');
  for (const name of ['a', 'b']) wait('unverified', name);
  t.equal(semaphore.isFull('unverified'), true);
  t.equal(semaphore.isFull('verified'), false);
  for (let at = 0; at < 6; at += 1) wait('verified', 'c');
  t.equal(semaphore.isFull('verified'), true);
  t.equal(semaphore.isFull('refresh'), false);
  for (let at = 0; at < 8; at += 1) wait('refresh', 'd');
  t.equal(semaphore.isFull('refresh'), true);
});
