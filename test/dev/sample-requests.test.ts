import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { readConfig } from '../../src/config/load.ts';
import { sampleRequests, targetOf, trySample } from '../../src/dev/sample-requests.ts';
import { tokenIssuer } from '../../src/dev/token-issuer.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { startTlsServer } from '../fixtures/tls-server.ts';

t.test('there are four samples, each with a token and a file name of its own', async t => {
  for (const env of [{}, { GATECAR_TOKEN_AUDIENCES: '' }]) {
    const account = 'system:serviceaccount:ci:deployer';
    const config = readConfig([], { GATECAR_ALLOWED_SERVICE_ACCOUNTS: account, ...env });
    const samples = sampleRequests(config, tokenIssuer());
    t.strictSame(
      samples.map(({ name }) => name),
      ['valid', 'audience', 'namespace', 'expired'],
    );
    t.equal(new Set(samples.map(({ token }) => token)).size, 4);
  }
  const config = readConfig([], { GATECAR_ALLOWED_NAMESPACES: 'ci' });
  t.match(atob(sampleRequests(config, tokenIssuer())[0]?.token.split('.')[1] ?? ''), 'serviceaccount:ci:my-app');
});

t.test('a listener on every address is asked on loopback, and one on a socket at its path', async t => {
  t.strictSame(targetOf('0.0.0.0:9080', 'http'), { url: 'http://127.0.0.1:9080' });
  t.strictSame(targetOf('[::]:9080', 'https'), { url: 'https://127.0.0.1:9080' });
  t.strictSame(targetOf('[::1]:9080', 'http'), { url: 'http://[::1]:9080' });
  t.strictSame(targetOf('unix:/run/s', 'http'), { url: 'http://localhost', socketPath: '/run/s' });
});

t.test('the result has the reason, or the user, or nothing if the response has neither', async t => {
  const replies: [number, Record<string, string>][] = [
    [401, { 'X-Gatecar-Reason': 'token_rejected' }],
    [200, { 'X-Bind-User': 'jane' }],
    [503, {}],
  ];
  const server = createServer((request, response) => {
    t.match(request, { url: '/auth', headers: { authorization: 'Bearer abc' } });
    response.writeHead(...(replies.shift() as [number, Record<string, string>])).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const target = targetOf(`127.0.0.1:${(server.address() as AddressInfo).port}`, 'http');
  const results = [];
  while (replies.length > 0) results.push(await trySample(target, 'abc', 'X-Bind-'));
  t.strictSame(results, [
    { status: 401, detail: 'token_rejected' },
    { status: 200, detail: 'jane' },
    { status: 503, detail: '' },
  ]);
});

t.test('a request that fails has the error in place of a status', async t => {
  t.match(await trySample({ url: 'http://127.0.0.1:1' }, 'abc', 'X-'), {
    status: 0,
    detail: /^not tried: .*ECONNREFUSED/,
  });
});

t.test('a listener on a Unix socket, or with TLS, is asked as such', async t => {
  const path = `${tempDir(t)}/s`;
  const server = createServer((_request, response) => response.writeHead(200, { 'X-User': 'jane' }).end()).listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  t.strictSame(await trySample(targetOf(`unix:${path}`, 'http'), 'abc', 'X-'), { status: 200, detail: 'jane' });
  const tls = await startTlsServer(t);
  t.match(await trySample(tls, 'abc', 'X-'), { status: 200 });
});
