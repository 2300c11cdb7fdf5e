import t from 'tap';
import { type Deadline, singleFlight } from '../../../src/authentication/cache/single-flight.ts';

const NEVER = new Promise<string>(() => {});

const MINUTE_MS = 60_000;

const createFlights = (deadlineMs = MINUTE_MS) => singleFlight<string, string>({ deadlineMs, onTimeout: () => 'late' });

t.test('all callers that join a running call share its result', async t => {
  const { join, start } = createFlights();
  const { promise, resolve } = Promise.withResolvers<string>();
  let calls = 0;
  const first = start('key', () => {
    calls += 1;
    return promise;
  });
  const joined = Array.from({ length: 256 }, () => join('key'));
  t.ok(joined.every(call => call === first));
  resolve('done');
  t.strictSame(new Set(await Promise.all([first, ...joined])), new Set(['done']));
  t.equal(calls, 1);
});

t.test('join returns undefined if no call runs for the key', async t => {
  const { join, start } = createFlights();
  t.equal(join('key'), undefined);
  const { promise, resolve } = Promise.withResolvers<string>();
  const flight = start('key', () => promise);
  t.equal(join('another'), undefined);
  resolve('done');
  await flight;
});

t.test('a settled call is removed, and the next caller starts a new one', async t => {
  const flights = createFlights();
  t.equal(await flights.start('key', async () => 'first'), 'first');
  t.equal(flights.join('key'), undefined);
  t.equal(await flights.start('key', () => 'second'), 'second');
});

t.test('a synchronous result or error is passed on, and there is no call to join', async t => {
  const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length;
  const before = timers();
  const flights = createFlights();
  t.equal(
    flights.start('key', deadline => {
      t.equal(deadline.hasPassed, false);
      return 'cached';
    }),
    'cached',
  );
  t.throws(
    () => {
      flights.start('key', () => {
        throw new Error('broken');
      });
    },
    { message: 'broken' },
  );
  t.equal(flights.join('key'), undefined);
  t.equal(timers(), before);
});

t.test('a failed call fails for all its callers and is removed', async t => {
  const flights = createFlights();
  const first = flights.start('key', async () => {
    throw new Error('broken');
  });
  const second = flights.join('key');
  await t.rejects(Promise.resolve(first), { message: 'broken' });
  await t.rejects(Promise.resolve(second), { message: 'broken' });
  t.equal(flights.join('key'), undefined);
});

t.test('at its deadline a call returns onTimeout() to all callers, is aborted and is removed', async t => {
  const flights = createFlights(50);
  let signal: AbortSignal | undefined;
  const start = performance.now();
  const first = flights.start('key', deadline => {
    signal = deadline.signal;
    return NEVER;
  });
  const second = flights.join('key');
  t.equal(signal?.aborted, false);
  t.strictSame(await Promise.all([first, second]), ['late', 'late']);
  t.ok(performance.now() - start >= 45, 'not before the deadline');
  t.equal(signal?.aborted, true);
  t.equal(flights.join('key'), undefined);
});

t.test('a call that settles on abort returns its own result', async t => {
  const { start } = createFlights(50);
  const call = ({ signal }: Deadline): Promise<string> =>
    new Promise(resolve => signal.addEventListener('abort', () => resolve('aborted')));
  t.equal(await start('key', call), 'aborted');
});

t.test('a deadline that has passed reports so and has an aborted signal', async t => {
  const { start } = createFlights(50);
  let deadline: Deadline | undefined;
  const flight = start('key', callDeadline => {
    deadline = callDeadline;
    return NEVER;
  });
  t.equal(deadline?.hasPassed, false);
  t.equal(await flight, 'late');
  t.equal(deadline?.hasPassed, true);
  t.equal(deadline?.signal.aborted, true);
  t.equal(deadline?.signal, deadline?.signal);
});

t.test('a late call that settles does not affect the next call of its key', async t => {
  const flights = createFlights(50);
  const late = Promise.withResolvers<string>();
  t.equal(await flights.start('key', () => late.promise), 'late');
  const next = Promise.withResolvers<string>();
  const flight = flights.start('key', () => next.promise);
  late.reject(new Error('too late to matter'));
  await new Promise(setImmediate);
  t.equal(flights.join('key'), flight);
  next.resolve('fresh');
  t.equal(await flight, 'fresh');
});

t.test('a call that settles in time is not aborted and leaves no timer', async t => {
  const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length;
  const before = timers();
  const { start } = createFlights();
  let signal: AbortSignal | undefined;
  const { promise, resolve } = Promise.withResolvers<string>();
  const flight = start('key', deadline => {
    signal = deadline.signal;
    return promise;
  });
  t.equal(timers(), before + 1);
  resolve('done');
  await flight;
  t.equal(timers(), before);
  t.equal(signal?.aborted, false);
});
