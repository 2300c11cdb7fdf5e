import { createServer } from 'node:http';
import t, { type Test } from 'tap';
import { metrics } from '../../src/operations/metrics.ts';
import { opsServer } from '../../src/operations/ops-server.ts';

function server(t: Test, ready: boolean) {
  const made = opsServer({
    health: { ready, report: () => 'the report\n' } as never,
    metrics: metrics('1.2.3'),
    listener: handler => createServer(handler),
    hasBody: () => false,
    onClientError: () => {},
  });
  t.teardown(() => made.close());
  return made;
}

t.test('/livez is alive whatever else is', async t => {
  t.match(await server(t, false).inject('/livez'), { statusCode: 200, body: 'ok\n' });
});

t.test('/readyz follows readiness, and ?verbose tells why', async t => {
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

t.test('HEAD answers as GET', async t => {
  t.match(await server(t, true).inject({ method: 'HEAD', url: '/readyz' }), { statusCode: 200, body: '' });
});

t.test('it never gives an auth answer, and repeats nothing of what it was asked', async t => {
  const ops = server(t, true);
  for (const url of ['/auth', '/auth/x', '/', '/secret%zz', '/secret']) {
    const { statusCode, body } = await ops.inject({ url, headers: { authorization: 'Bearer secret' } });
    t.equal(statusCode, 404, url);
    t.notMatch(body, /secret/);
  }
  t.match(await ops.inject({ method: 'POST', url: '/metrics' }), { statusCode: 404 });
});
