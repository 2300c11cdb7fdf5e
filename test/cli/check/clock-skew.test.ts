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

t.test('the clock skew is computed from the Date header of each response', async t => {
  const watch = measureClockSkew(answering(NOW - 600_000), () => NOW);
  t.equal(watch.aheadMs, undefined, 'no skew is known before the first response');
  t.equal((await watch.connection.get('/', signal)).status, 200);
  t.equal(watch.aheadMs, 599_500, 'the header’s time is taken as the middle of its second');
  const behind = measureClockSkew(answering(NOW + 60_000), () => NOW);
  t.equal((await behind.connection.post('/', '', signal)).status, 200);
  t.equal(behind.aheadMs, -60_500);
  await behind.connection.close();
});

t.test('a response without a Date header yields no clock skew', async t => {
  const watch = measureClockSkew(answering(undefined), () => NOW);
  await watch.connection.get('/', signal);
  t.equal(watch.aheadMs, undefined);
});

t.test('a clock skew of more than 30 s is a warning', async t => {
  for (const sign of [1, -1]) {
    t.equal(assessClockSkew(sign * 30_000).result, 'ok');
    t.equal(assessClockSkew(sign * 30_001).result, 'warn');
    t.equal(assessClockSkew(sign * 600_000).result, 'warn');
  }
});

t.test('the clock skew warning names the clock that is ahead and the consequence', async t => {
  t.match(assessClockSkew(600_000), {
    text: /^this machine's clock is 600 s ahead of the API server's: past 30 s, token times are not checked here, and /,
    fix: /^timedatectl status /,
  });
  t.match(assessClockSkew(-40_000).text, /^this machine's clock is 40 s behind the API server's: /);
  t.equal(assessClockSkew(0).fix, undefined);
});
