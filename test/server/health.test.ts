import t, { type Test } from 'tap';
import { type Health, health } from '../../src/server/health.ts';
import { until } from '../fixtures/until.ts';

const success = { outcome: 'rejected', problem: undefined } as const;
const failure = { outcome: 'forbidden', problem: 'forbidden (HTTP 403)' } as const;

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

t.test('readiness needs one successful review, and then stays during an outage', async t => {
  const { watched, lines } = watch(t);
  t.notOk(watched.ready);
  watched.recordReview(failure);
  t.notOk(watched.ready);
  t.match(watched.report(), /^\[-\]first-review failed: forbidden \(HTTP 403\)$/m);
  t.match(watched.report(), /readyz check failed\n$/);
  watched.recordReview(success);
  t.ok(watched.ready);
  t.ok(watched.apiServerUp);
  t.equal(watched.report(), '[+]first-review ok\n[+]apiserver ok\n[+]shutdown ok\nreadyz check passed\n');
  watched.recordReview(failure);
  t.ok(watched.ready, 'cached results are still served');
  t.notOk(watched.apiServerUp);
  t.match(watched.report(), /^\[-\]apiserver failed: forbidden \(HTTP 403\) \(cached results are still served\)$/m);
  watched.recordReview(success);
  t.strictSame(lines, [
    'warn API server unreachable {"problem":"forbidden (HTTP 403)"}',
    'info API server reachable',
    'warn API server unreachable {"problem":"forbidden (HTTP 403)"}',
    'info API server reachable again',
  ]);
});

t.test('an outage is logged once, and again if its cause changes', async t => {
  const { watched, lines } = watch(t);
  watched.recordReview(failure);
  watched.recordReview(failure);
  watched.recordReview({ outcome: 'timeout', problem: 'timeout' });
  t.equal(lines.length, 2);
});

t.test('the API server counts as down only after a failed review that was not of an untrusted token', async t => {
  const { watched } = watch(t);
  t.notOk(watched.apiServerDown, 'no review has been sent');
  watched.recordReview(failure, true);
  t.notOk(watched.apiServerUp);
  t.notOk(watched.apiServerDown);
  watched.recordReview(failure);
  t.ok(watched.apiServerDown);
  watched.recordReview(failure, true);
  t.ok(watched.apiServerDown, 'a failed review of an untrusted token changes nothing');
  watched.recordReview(success);
  t.notOk(watched.apiServerDown);
});

t.test('a draining server is unready', async t => {
  const { watched } = watch(t);
  watched.recordReview(success);
  watched.drain();
  t.notOk(watched.ready);
  t.match(watched.report(), /^\[-\]shutdown failed: draining$/m);
});

t.test('the probe runs until a review succeeds, and again during an outage', async t => {
  let calls = 0;
  let watched: Health | undefined;
  const probe = async () => {
    calls += 1;
    watched?.recordReview(calls === 3 ? success : failure);
  };
  watched = watch(t, probe).watched;
  watched.start();
  await until(() => calls === 3);
  t.ok(watched.apiServerUp);
  watched.recordReview(failure);
  await until(() => calls >= 5);
});

/** Waits until the probe of an independent health monitor has run ten times. */
async function waitForTenProbes(t: Test): Promise<void> {
  let calls = 0;
  let independent: Health | undefined;
  const probe = async () => {
    calls += 1;
    independent?.recordReview(failure);
  };
  independent = watch(t, probe).watched;
  independent.start();
  await until(() => calls >= 10);
}

t.test('the probe stops after a successful review and after stop', async t => {
  let calls = 0;
  const { watched } = watch(t, async () => {
    calls += 1;
  });
  watched.recordReview(success);
  watched.start();
  await waitForTenProbes(t);
  t.equal(calls, 1);
  watched.stop();
  watched.recordReview(failure);
  const waiting = watch(t, async () => {
    calls += 1;
  }).watched;
  waiting.recordReview(failure);
  waiting.stop();
  await waitForTenProbes(t);
  t.equal(calls, 1);
});

t.test('a server that drains before it was ready never reports readiness', async t => {
  const { watched } = watch(t);
  const reported: boolean[] = [];
  watched.onReadiness(ready => reported.push(ready));
  watched.drain();
  watched.recordReview(success);
  t.strictSame(reported, [false, false, false]);
  t.notOk(watched.ready);
});

t.test('onReadiness reports the current readiness and each change', async t => {
  const { watched } = watch(t);
  const reported: boolean[] = [];
  watched.onReadiness(ready => reported.push(ready));
  watched.recordReview(failure);
  watched.recordReview(success);
  watched.recordReview(failure);
  watched.recordReview(success);
  watched.drain();
  watched.onReadiness(ready => reported.push(ready));
  t.strictSame(reported, [false, true, false, false]);
});

t.test('without a probe the server is ready from the start', async t => {
  const watched = health({ log: { info: () => {}, warn: () => {} } as never, probe: undefined });
  watched.start();
  t.ok(watched.ready);
  t.ok(watched.apiServerUp);
});

t.test('an API server that fails every second review does not flood the log', async t => {
  const { watched, lines } = watch(t);
  for (let review = 0; review < 500; review += 1) watched.recordReview(review % 2 === 0 ? failure : success);
  t.ok(lines.length < 20, `${lines.length} lines`);
  watched.stop();
  t.match(lines.at(-1), /^info repeated log lines suppressed: API server /);
});
