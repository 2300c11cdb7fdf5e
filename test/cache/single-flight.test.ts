import t from 'tap';
import { singleFlight } from '../../src/cache/single-flight.ts';

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

t.test('a call that fails fails for all who wait, and is forgotten', async t => {
  const all = flights();
  for (const call of [
    async () => {
      throw new Error('broken');
    },
    () => {
      throw new Error('broken');
    },
  ]) {
    const first = all.start('key', call);
    const second = all.join('key');
    await t.rejects(first, { message: 'broken' });
    await t.rejects(Promise.resolve(second), { message: 'broken' });
    t.equal(all.size, 0);
  }
});

t.test('at its deadline a call is answered for all, told to stop, and forgotten', async t => {
  const all = flights(50);
  let told: AbortSignal | undefined;
  const start = performance.now();
  const first = all.start('key', signal => {
    told = signal;
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
  const call = (signal: AbortSignal): Promise<string> =>
    new Promise(resolve => signal.addEventListener('abort', () => resolve('gave in')));
  t.equal(await start('key', call), 'gave in');
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
  const flight = start('key', signal => {
    told = signal;
    return promise;
  });
  t.equal(timers(), before + 1);
  resolve('done');
  await flight;
  t.equal(timers(), before);
  t.equal(told?.aborted, false);
});
