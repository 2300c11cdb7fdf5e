import t from 'tap';
import { assessClockSkew, measureClockSkew } from '../../../src/cli/check/clock-skew.ts';
import type { KubeApiClient } from '../../../src/kube/api-client.ts';
import type { HttpResponse } from '../../../src/kube/http-request.ts';

const NOW = Date.UTC(2025, 5, 1, 12);
const { signal } = new AbortController();

function answering(sentAtMs: number | undefined): KubeApiClient {
  const answer: HttpResponse = { status: 200, body: '', retryAfterSeconds: undefined, sentAtMs };
  return { post: async () => answer, get: async () => answer, close: async () => {} };
}

t.test('the difference is read off each answer', async t => {
  const watch = measureClockSkew(answering(NOW - 600_000), () => NOW);
  t.equal(watch.aheadMs, undefined, 'none is known before');
  t.equal((await watch.connection.get('/', signal)).status, 200);
  t.equal(watch.aheadMs, 599_500, 'in the middle of the second that the header names');
  const behind = measureClockSkew(answering(NOW + 60_000), () => NOW);
  t.equal((await behind.connection.post('/', '', signal)).status, 200);
  t.equal(behind.aheadMs, -60_500);
  await behind.connection.close();
});

t.test('an answer without a time says nothing of clocks', async t => {
  const watch = measureClockSkew(answering(undefined), () => NOW);
  await watch.connection.get('/', signal);
  t.equal(watch.aheadMs, undefined);
});

t.test('a skew of more than 30 s is a warning', async t => {
  for (const sign of [1, -1]) {
    t.equal(assessClockSkew(sign * 30_000).result, 'ok');
    t.equal(assessClockSkew(sign * 30_001).result, 'warn');
    t.equal(assessClockSkew(sign * 600_000).result, 'warn');
  }
});

t.test('the warning says whose clock is ahead, and what follows from it', async t => {
  t.match(assessClockSkew(600_000), {
    text: /^this machine's clock is 600 s ahead of the API server's: past 30 s, token times are not checked here, and /,
    fix: /^timedatectl status /,
  });
  t.match(assessClockSkew(-40_000).text, /^this machine's clock is 40 s behind the API server's: /);
  t.equal(assessClockSkew(0).fix, undefined);
});
