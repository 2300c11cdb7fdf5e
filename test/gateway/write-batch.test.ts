import t from 'tap';
import { WriteBatch } from '../../src/gateway/write-batch.ts';

function setUp() {
  const ends: (() => void)[] = [];
  const done: string[] = [];
  const batch = new WriteBatch(callback => ends.push(callback));
  return { batch, ends, done };
}

t.test('all writes of an iteration are sent at its end, in order', async t => {
  const { batch, ends, done } = setUp();
  batch.add(() => done.push('first'));
  batch.add(() => done.push('second'));
  t.strictSame([ends.length, done], [1, []]);
  ends.shift()?.();
  t.strictSame(done, ['first', 'second']);
  batch.add(() => done.push('third'));
  t.equal(ends.length, 1, 'the next iteration has an end of its own');
  ends.shift()?.();
  t.strictSame(done, ['first', 'second', 'third']);
});

t.test(
  'flush sends at once, with the writes that are added meanwhile, and the end of the iteration sends nothing',
  async t => {
    const { batch, ends, done } = setUp();
    batch.add(() => {
      done.push('first');
      batch.add(() => done.push('added'));
    });
    batch.flush();
    t.strictSame(done, ['first', 'added']);
    for (const end of ends) end();
    t.strictSame(done, ['first', 'added']);
  },
);

t.test('without a hook, writes are sent at the end of the event-loop iteration', async t => {
  const batch = new WriteBatch();
  let sent = false;
  batch.add(() => {
    sent = true;
  });
  await Promise.resolve();
  t.notOk(sent);
  await new Promise(resolve => setImmediate(resolve));
  t.ok(sent);
});
