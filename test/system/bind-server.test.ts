import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bindServer, bracketed } from '../../src/system/bind-server.ts';
import { tempDir } from '../fixtures/temp-dir.ts';

function server(t: Test): Server {
  const server = createServer();
  t.teardown(() => server.close());
  return server;
}

t.test('bindServer returns the address that the server actually has', async t => {
  t.match(await bindServer(server(t), { host: '127.0.0.1', port: 0 }), /^127\.0\.0\.1:[1-9]\d*$/);
  t.match(await bindServer(server(t), { host: '::1', port: 0 }), /^\[::1\]:[1-9]\d*$/);
  const path = join(tempDir(t), 'socket');
  t.equal(await bindServer(server(t), { path }), `unix:${path}`);
});

t.test('an address in use is rejected with the error code of the system', async t => {
  const address = await bindServer(server(t), { host: '127.0.0.1', port: 0 });
  const port = Number(address.split(':')[1]);
  await t.rejects(bindServer(server(t), { host: '127.0.0.1', port }), { code: 'EADDRINUSE' });
});

t.test('only IPv6 addresses get brackets', async t => {
  t.strictSame(['::1', '127.0.0.1', 'api.example'].map(bracketed), ['[::1]', '127.0.0.1', 'api.example']);
});
