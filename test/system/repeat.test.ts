import t from 'tap';
import { repeat } from '../../src/system/repeat.ts';
import { until } from '../fixtures/until.ts';

/** Resolves after another repeated task has run several times, so that a due timer has run too. */
async function severalPauses(): Promise<void> {
  let runs = 0;
  const stop = repeat(1, async () => {
    runs += 1;
  });
  await until(() => runs > 5);
  stop();
}

t.test('a repeated task starts again after its last run has ended', async t => {
  const runs: PromiseWithResolvers<void>[] = [];
  const stop = repeat(1, () => {
    const run = Promise.withResolvers<void>();
    runs.push(run);
    return run.promise;
  });
  t.teardown(stop);
  await until(() => runs.length === 1);
  await severalPauses();
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
  await severalPauses();
  t.equal(runs, 1);
});
