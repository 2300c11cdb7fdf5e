import t from 'tap';
import { repeat } from '../../src/system/repeat.ts';
import { until } from '../fixtures/until.ts';

t.test('the task is repeated after it has ended, and not before', async t => {
  const runs: PromiseWithResolvers<void>[] = [];
  const stop = repeat(1, () => {
    const run = Promise.withResolvers<void>();
    runs.push(run);
    return run.promise;
  });
  t.teardown(stop);
  await until(() => runs.length === 1);
  await new Promise(resolve => setTimeout(resolve, 5));
  t.equal(runs.length, 1, 'the first run has not ended');
  runs[0]?.resolve();
  await until(() => runs.length === 2);
});

t.test('a stopped task does not start again, even if it was stopped while it ran', async t => {
  let runs = 0;
  const run = Promise.withResolvers<void>();
  const stop = repeat(1, () => {
    runs += 1;
    return run.promise;
  });
  await until(() => runs === 1);
  stop();
  run.resolve();
  const other = Promise.withResolvers<void>();
  t.teardown(repeat(3, async () => other.resolve()));
  await other.promise;
  t.equal(runs, 1);
});
