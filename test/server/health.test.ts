import t, { type Test } from 'tap';
import { type Health, health } from '../../src/server/health.ts';
import { until } from '../fixtures/until.ts';

const good = { outcome: 'rejected', problem: undefined } as const;
const bad = { outcome: 'forbidden', problem: 'forbidden (HTTP 403)' } as const;

function watch(t: Test, probe: (() => Promise<unknown>) | undefined = async () => {}) {
  const lines: string[] = [];
  const log = {
    info: (...args: unknown[]) => lines.push(`info ${args.at(-1)}`),
    warn: (...args: unknown[]) => lines.push(`warn ${args.at(-1)} ${JSON.stringify(args[0])}`),
  };
  const watched = health({ log: log as never, probe, probeEveryMs: 1 });
  t.teardown(() => watched.stop());
  return { watched, lines };
}

t.test('it is ready once a review could be asked for, and then through an outage too', async t => {
  const { watched, lines } = watch(t);
  t.notOk(watched.ready);
  watched.recordReview(bad);
  t.notOk(watched.ready);
  t.match(watched.report(), /^\[-\]first-review failed: forbidden \(HTTP 403\)$/m);
  t.match(watched.report(), /readyz check failed\n$/);
  watched.recordReview(good);
  t.ok(watched.ready);
  t.ok(watched.apiServerUp);
  t.equal(watched.report(), '[+]first-review ok\n[+]apiserver ok\n[+]shutdown ok\nreadyz check passed\n');
  watched.recordReview(bad);
  t.ok(watched.ready, 'known results still serve');
  t.notOk(watched.apiServerUp);
  t.match(watched.report(), /^\[-\]apiserver failed: forbidden \(HTTP 403\) \(cached results are still served\)$/m);
  watched.recordReview(good);
  t.strictSame(lines, [
    'warn API server unreachable {"problem":"forbidden (HTTP 403)"}',
    'info API server reachable',
    'warn API server unreachable {"problem":"forbidden (HTTP 403)"}',
    'info API server reachable again',
  ]);
});

t.test('the same outage is told once, and another one anew', async t => {
  const { watched, lines } = watch(t);
  watched.recordReview(bad);
  watched.recordReview(bad);
  watched.recordReview({ outcome: 'timeout', problem: 'timeout' });
  t.equal(lines.length, 2);
});

t.test('it is certain that nobody can be asked once it failed for what nobody could have made up', async t => {
  const { watched } = watch(t);
  t.notOk(watched.apiServerDown, 'nobody has tried');
  watched.recordReview(bad, true);
  t.notOk(watched.apiServerUp);
  t.notOk(watched.apiServerDown);
  watched.recordReview(bad);
  t.ok(watched.apiServerDown);
  watched.recordReview(bad, true);
  t.ok(watched.apiServerDown, 'and no less for what fails besides');
  watched.recordReview(good);
  t.notOk(watched.apiServerDown);
});

t.test('draining is unready', async t => {
  const { watched } = watch(t);
  watched.recordReview(good);
  watched.drain();
  t.notOk(watched.ready);
  t.match(watched.report(), /^\[-\]shutdown failed: draining$/m);
});

t.test('it asks by itself until it can ask, and again in an outage', async t => {
  let calls = 0;
  let watched: Health | undefined;
  const probe = async () => {
    calls += 1;
    watched?.recordReview(calls === 3 ? good : bad);
  };
  watched = watch(t, probe).watched;
  watched.start();
  await until(() => calls === 3);
  t.ok(watched.apiServerUp);
  watched.recordReview(bad);
  await until(() => calls >= 5);
});

/** Lets so much time pass that another watcher has asked ten times. */
async function tenProbesOfAnother(t: Test): Promise<void> {
  let calls = 0;
  let other: Health | undefined;
  const probe = async () => {
    calls += 1;
    other?.recordReview(bad);
  };
  other = watch(t, probe).watched;
  other.start();
  await until(() => calls >= 10);
}

t.test('it asks no more by itself once it can ask, nor once it is stopped', async t => {
  let calls = 0;
  const { watched } = watch(t, async () => {
    calls += 1;
  });
  watched.recordReview(good);
  watched.start();
  await tenProbesOfAnother(t);
  t.equal(calls, 1);
  watched.stop();
  watched.recordReview(bad);
  const waiting = watch(t, async () => {
    calls += 1;
  }).watched;
  waiting.recordReview(bad);
  waiting.stop();
  await tenProbesOfAnother(t);
  t.equal(calls, 1);
});

t.test('who drains before it was ever ready is not told that it is', async t => {
  const { watched } = watch(t);
  const heard: boolean[] = [];
  watched.onReadiness(ready => heard.push(ready));
  watched.drain();
  watched.recordReview(good);
  t.strictSame(heard, [false, false, false]);
  t.notOk(watched.ready);
});

t.test('one listener hears of readiness, now and whenever it changes', async t => {
  const { watched } = watch(t);
  const heard: boolean[] = [];
  watched.onReadiness(ready => heard.push(ready));
  watched.recordReview(bad);
  watched.recordReview(good);
  watched.recordReview(bad);
  watched.recordReview(good);
  watched.drain();
  watched.onReadiness(ready => heard.push(ready));
  t.strictSame(heard, [false, true, false, false]);
});

t.test('where there is nobody to ask it is ready from the start', async t => {
  const watched = health({ log: { info: () => {}, warn: () => {} } as never, probe: undefined });
  watched.start();
  t.ok(watched.ready);
  t.ok(watched.apiServerUp);
});

t.test('an API server that answers every other review does not fill the log', async t => {
  const { watched, lines } = watch(t);
  for (let review = 0; review < 500; review += 1) watched.recordReview(review % 2 === 0 ? bad : good);
  t.ok(lines.length < 20, `${lines.length} lines`);
  watched.stop();
  t.match(lines.at(-1), /^info repeated log lines suppressed: API server /);
});
