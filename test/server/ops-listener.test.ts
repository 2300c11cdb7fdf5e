import { createServer } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { metrics } from '../../src/observability/metrics.ts';
import { opsServer, sharedRendering } from '../../src/server/ops-listener.ts';
import { fakeClock } from '../fixtures/clock.ts';

function server(t: Test, ready: boolean, hasBody = false) {
  const ops = opsServer({
    health: { ready, report: () => 'the report\n' } as never,
    metrics: metrics('1.2.3'),
    listener: handler => createServer(handler),
    hasBody: () => hasBody,
    onClientError: () => {},
  });
  t.teardown(() => ops.close());
  return ops;
}

t.test('/livez is 200 even if gatecar is not ready', async t => {
  t.match(await server(t, false).inject('/livez'), { statusCode: 200, body: 'ok\n' });
});

t.test('/readyz follows readiness, and ?verbose returns the report', async t => {
  t.match(await server(t, true).inject('/readyz'), { statusCode: 200, body: 'ok\n' });
  const unready = server(t, false);
  t.match(await unready.inject('/readyz'), {
    statusCode: 503,
    body: /verbose/,
    headers: { 'cache-control': 'no-store' },
  });
  t.match(await unready.inject('/readyz?verbose'), { statusCode: 503, body: 'the report\n' });
  t.match(await server(t, true).inject('/readyz?verbose=1'), { statusCode: 200, body: 'the report\n' });
});

t.test('/metrics is the Prometheus text format', async t => {
  const { statusCode, headers, body } = await server(t, true).inject('/metrics');
  t.equal(statusCode, 200);
  t.match(headers['content-type'], /^text\/plain; version=0\.0\.4/);
  t.match(body, /^gatecar_build_info\{version="1\.2\.3",node="v24/m);
});

t.test('the ops listener answers HEAD as GET without a body', async t => {
  t.match(await server(t, true).inject({ method: 'HEAD', url: '/readyz' }), { statusCode: 200, body: '' });
});

t.test('the ops listener has no auth endpoint and does not repeat the request', async t => {
  const ops = server(t, true);
  for (const url of ['/auth', '/auth/x', '/', '/secret%zz', '/secret']) {
    const { statusCode, body } = await ops.inject({ url, headers: { authorization: 'Bearer secret' } });
    t.equal(statusCode, 404, url);
    t.notMatch(body, /secret/);
  }
  t.match(await ops.inject({ method: 'POST', url: '/metrics' }), { statusCode: 404 });
});

t.test('an ops request with a body is answered and its connection closed', async t => {
  const { statusCode, headers } = await server(t, true, true).inject('/livez');
  t.match([statusCode, headers.connection], [200, 'close']);
  t.not((await server(t, true).inject('/livez')).headers.connection, 'close');
});

t.test('concurrent scrapes share one rendering, and the next starts after 50 ms', async t => {
  const clock = fakeClock();
  let rendered = 0;
  const scrape = sharedRendering(async () => `rendering ${++rendered}`, 50, clock.now);
  const first = Array.from({ length: 2000 }, () => scrape());
  t.strictSame(new Set(await Promise.all(first)), new Set(['rendering 1']));
  clock.advance(10);
  const second = Array.from({ length: 2000 }, () => scrape());
  for (let turns = 0; turns < 5; turns += 1) await turn();
  t.equal(rendered, 1, 'the second rendering has not started');
  t.strictSame(new Set(await Promise.all(second)), new Set(['rendering 2']));
  clock.advance(50);
  t.equal(await scrape(), 'rendering 3');
});

t.test('a failed rendering rejects its scrapes, and the next scrape renders again', async t => {
  let rendered = 0;
  const scrape = sharedRendering(async () => {
    rendered += 1;
    if (rendered === 1) throw new Error('no metrics');
    return 'metrics';
  }, 1);
  await t.rejects(Promise.all([scrape(), scrape()]), { message: 'no metrics' });
  t.equal(await scrape(), 'metrics');
});
