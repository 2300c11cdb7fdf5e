import t from 'tap';
import type { HttpAnswer } from '../../../src/kube/http-request.ts';
import type { KubeConnection } from '../../../src/kube/api-client.ts';
import { judgeClocks, watchClock } from '../../../src/cli/check/clock-skew.ts';

const NOW = Date.UTC(2025, 5, 1, 12);
const { signal } = new AbortController();

function answering(sentAtMs: number | undefined): KubeConnection {
  const answer: HttpAnswer = { status: 200, body: '', retryAfterSeconds: undefined, sentAtMs };
  return { post: async () => answer, get: async () => answer, close: async () => {} };
}

t.test('the difference is read off each answer', async t => {
  const watch = watchClock(answering(NOW - 600_000), () => NOW);
  t.equal(watch.aheadMs, undefined, 'none is known before');
  t.equal((await watch.connection.get('/', signal)).status, 200);
  t.equal(watch.aheadMs, 599_500, 'in the middle of the second that the header names');
  const behind = watchClock(answering(NOW + 60_000), () => NOW);
  t.equal((await behind.connection.post('/', '', signal)).status, 200);
  t.equal(behind.aheadMs, -60_500);
  await behind.connection.close();
});

t.test('an answer without a time says nothing of clocks', async t => {
  const watch = watchClock(answering(undefined), () => NOW);
  await watch.connection.get('/', signal);
  t.equal(watch.aheadMs, undefined);
});

t.test('a skew of more than 30 s is a warning', async t => {
  for (const sign of [1, -1]) {
    t.equal(judgeClocks(sign * 30_000).result, 'ok');
    t.equal(judgeClocks(sign * 30_001).result, 'warn');
    t.equal(judgeClocks(sign * 600_000).result, 'warn');
  }
});

t.test('the warning says whose clock is ahead, and what follows from it', async t => {
  t.match(judgeClocks(600_000), {
    text: /^this machine's clock is 600 s ahead of the API server's: past 30 s, token times are not checked here, and /,
    mend: /^timedatectl status /,
  });
  t.match(judgeClocks(-40_000).text, /^this machine's clock is 40 s behind the API server's: /);
  t.equal(judgeClocks(0).mend, undefined);
});
