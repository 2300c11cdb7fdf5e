import t from 'tap';
import { type Deadline, singleFlight } from '../../../src/authentication/cache/single-flight.ts';

const NEVER = new Promise<string>(() => {});

const MINUTE_MS = 60_000;

const flights = (deadlineMs = MINUTE_MS) => singleFlight<string, string>({ deadlineMs, late: () => 'late' });

t.test('all who ask while a call runs share it and its end', async t => {
  const { join, start } = flights();
  const { promise, resolve } = Promise.withResolvers<string>();
  let calls = 0;
  const first = start('key', () => {
    calls += 1;
    return promise;
  });
  const others = Array.from({ length: 256 }, () => join('key'));
  t.ok(others.every(other => other === first));
  resolve('done');
  t.strictSame(new Set(await Promise.all([first, ...others])), new Set(['done']));
  t.equal(calls, 1);
});

t.test('nobody joins where nothing runs, nor under another key', async t => {
  const { join, start } = flights();
  t.equal(join('key'), undefined);
  const { promise, resolve } = Promise.withResolvers<string>();
  const flight = start('key', () => promise);
  t.equal(join('another'), undefined);
  resolve('done');
  await flight;
});

t.test('when a call has ended it is forgotten, and the next asks anew', async t => {
  const all = flights();
  t.equal(await all.start('key', async () => 'one'), 'one');
  t.equal(all.join('key'), undefined);
  t.equal(all.size, 0);
  t.equal(await all.start('key', () => 'two'), 'two');
});

t.test('the number of running calls is told', async t => {
  const all = flights();
  const { promise, resolve } = Promise.withResolvers<string>();
  const running = [all.start('a', () => promise), all.start('b', () => promise)];
  t.equal(all.size, 2);
  resolve('done');
  await Promise.all(running);
  t.equal(all.size, 0);
});

t.test('what is answered at once is handed on as it is, and there is nothing to join', async t => {
  const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length;
  const before = timers();
  const all = flights();
  t.equal(
    all.start('key', deadline => {
      t.equal(deadline.hasPassed, false);
      return 'known';
    }),
    'known',
  );
  t.throws(
    () => {
      all.start('key', () => {
        throw new Error('broken');
      });
    },
    { message: 'broken' },
  );
  t.equal(all.join('key'), undefined);
  t.equal(all.size, 0);
  t.equal(timers(), before);
});

t.test('a call that fails fails for all who wait, and is forgotten', async t => {
  const all = flights();
  const first = all.start('key', async () => {
    throw new Error('broken');
  });
  const second = all.join('key');
  await t.rejects(Promise.resolve(first), { message: 'broken' });
  await t.rejects(Promise.resolve(second), { message: 'broken' });
  t.equal(all.size, 0);
});

t.test('at its deadline a call is answered for all, told to stop, and forgotten', async t => {
  const all = flights(50);
  let told: AbortSignal | undefined;
  const start = performance.now();
  const first = all.start('key', deadline => {
    told = deadline.signal;
    return NEVER;
  });
  const second = all.join('key');
  t.equal(told?.aborted, false);
  t.strictSame(await Promise.all([first, second]), ['late', 'late']);
  t.ok(performance.now() - start >= 45, 'not before its time');
  t.equal(told?.aborted, true);
  t.equal(all.size, 0);
});

t.test('a call that gives in when it is told to stop may say so in its own words', async t => {
  const { start } = flights(50);
  const call = ({ signal }: Deadline): Promise<string> =>
    new Promise(resolve => signal.addEventListener('abort', () => resolve('gave in')));
  t.equal(await start('key', call), 'gave in');
});

t.test('whoever looks at the deadline after it has passed finds it so', async t => {
  const { start } = flights(50);
  let deadline: Deadline | undefined;
  const flight = start('key', given => {
    deadline = given;
    return NEVER;
  });
  t.equal(deadline?.hasPassed, false);
  t.equal(await flight, 'late');
  t.equal(deadline?.hasPassed, true);
  t.equal(deadline?.signal.aborted, true);
  t.equal(deadline?.signal, deadline?.signal);
});

t.test('the end of a call that was late does nothing to the one after it', async t => {
  const all = flights(50);
  const late = Promise.withResolvers<string>();
  t.equal(await all.start('key', () => late.promise), 'late');
  const next = Promise.withResolvers<string>();
  const flight = all.start('key', () => next.promise);
  late.reject(new Error('too late to matter'));
  await new Promise(setImmediate);
  t.equal(all.join('key'), flight);
  next.resolve('fresh');
  t.equal(await flight, 'fresh');
});

t.test('a call that ends in time is not told to stop and leaves no timer behind', async t => {
  const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length;
  const before = timers();
  const { start } = flights();
  let told: AbortSignal | undefined;
  const { promise, resolve } = Promise.withResolvers<string>();
  const flight = start('key', deadline => {
    told = deadline.signal;
    return promise;
  });
  t.equal(timers(), before + 1);
  resolve('done');
  await flight;
  t.equal(timers(), before);
  t.equal(told?.aborted, false);
});
