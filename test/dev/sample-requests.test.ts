import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { readConfig } from '../../src/config/load.ts';
import { sampleRequests, trySample } from '../../src/dev/sample-requests.ts';
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

t.test('the blocked namespace and the wrong audience are in no list of the settings', async t => {
  const claimsOf = (env: Record<string, string>, at: number) =>
    JSON.parse(atob(sampleRequests(readConfig([], env), tokenIssuer())[at]?.token.split('.')[1] ?? ''));
  const namespaceOf = (env: Record<string, string>) => claimsOf(env, 2)['kubernetes.io'].namespace;
  t.equal(namespaceOf({ GATECAR_ALLOWED_NAMESPACES: 'ci' }), 'blocked');
  t.equal(namespaceOf({ GATECAR_ALLOWED_NAMESPACES: 'blocked,not-blocked' }), 'not-not-blocked');
  t.equal(namespaceOf({ GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:blocked:b' }), 'not-blocked');
  const audiences = { GATECAR_TOKEN_AUDIENCES: 'bindcar,another-app', GATECAR_ALLOWED_NAMESPACES: 'ci' };
  t.strictSame(claimsOf(audiences, 1).aud, ['not-another-app']);
});

t.test('in the mode format-only, which denies none of the samples, only the valid one is left', async t => {
  const env = { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:0', GATECAR_ALLOWED_NAMESPACES: 'ci' };
  t.strictSame(
    sampleRequests(readConfig([], env), tokenIssuer()).map(({ name }) => name),
    ['valid'],
  );
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
  const target = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
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
  t.strictSame(await trySample({ url: 'http://localhost', socketPath: path }, 'abc', 'X-'), {
    status: 200,
    detail: 'jane',
  });
  const tls = await startTlsServer(t);
  t.match(await trySample(tls, 'abc', 'X-'), { status: 200 });
});
