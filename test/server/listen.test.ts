import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import Fastify, { type FastifyInstance } from 'fastify';
import t, { type Test } from 'tap';
import { type Address, address } from '../../src/config/network-types.ts';
import { bindAddress, listen } from '../../src/server/listen.ts';
import type { BindTarget } from '../../src/system/bind-server.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { until } from '../fixtures/until.ts';

function server(t: Test): FastifyInstance {
  const app = Fastify();
  app.get('/', (_request, reply) => reply.send('here'));
  t.teardown(() => app.close());
  return app;
}

const parse = (text: string) => address.parse(text) as Address;

function failure(code: string): Error {
  return Object.assign(new Error(`listen ${code}`), { code });
}

t.test('listen returns the bound address', async t => {
  t.match(await listen(server(t), parse('127.0.0.1:0'), 'X'), /^127\.0\.0\.1:\d+$/);
  t.match(await listen(server(t), parse('[::1]:0'), 'X'), /^\[::1\]:\d+$/);
  const path = join(tempDir(t), 's');
  t.equal(await listen(server(t), parse(`unix:${path}`), 'X'), `unix:${path}`);
});

t.test('a port without a host binds all IPv6 addresses, or all of IPv4 if IPv6 is missing', async t => {
  const targets: BindTarget[] = [];
  const bind = async (target: BindTarget) => {
    targets.push(target);
    if ('host' in target && target.host === '::') throw failure('EAFNOSUPPORT');
    return 'bound';
  };
  t.equal(await bindAddress(bind, parse(':9080'), 'X'), 'bound');
  t.strictSame(targets, [
    { host: '::', port: 9080 },
    { host: '0.0.0.0', port: 9080 },
  ]);
  t.equal(await bindAddress(async target => ('host' in target ? target.host : ''), parse(':1'), 'X'), '::');
});

t.test('an address that cannot be bound is an error with setting and cause', async t => {
  const port = (await listen(server(t), parse('127.0.0.1:0'), 'X')).split(':')[1];
  await t.rejects(listen(server(t), parse(`127.0.0.1:${port}`), 'GATECAR_LISTEN'), {
    name: 'ListenError',
    message: `GATECAR_LISTEN: cannot listen on 127.0.0.1:${port}: EADDRINUSE`,
  });
  const fails = (error: unknown) => () => Promise.reject(error);
  await t.rejects(bindAddress(fails(failure('EACCES')), parse(':80'), 'S'), {
    message: 'S: cannot listen on :80: EACCES',
  });
  await t.rejects(bindAddress(fails({}), parse('h:80'), 'S'), { message: 'S: cannot listen on h:80: unknown error' });
});

t.test('a Unix socket has the configured mode, or 0660 by default, whatever the umask', async t => {
  const directory = tempDir(t);
  const modeOf = (path: string) => statSync(path).mode & 0o777;
  for (const umask of [0o000, 0o022, 0o077]) {
    const before = process.umask(umask);
    t.teardown(() => process.umask(before));
    for (const mode of [0o600, 0o660, 0o666, undefined]) {
      const path = join(directory, `${umask}-${mode}`);
      const socketServer = createServer();
      t.teardown(() => socketServer.close());
      let atBind: number | undefined;
      const bind = (target: BindTarget) => {
        const listening = new Promise<string>(resolve => socketServer.listen(target, () => resolve('bound')));
        atBind = modeOf(path);
        return listening;
      };
      await bindAddress(bind, parse(`unix:${path}`), 'X', mode);
      t.equal(atBind, mode ?? 0o660, 'the mode is set when the socket is bound');
      t.equal(modeOf(path), mode ?? 0o660);
      t.equal(process.umask(), umask, 'the umask is restored');
    }
    process.umask(before);
  }
  const path = join(directory, 'http');
  await listen(server(t), parse(`unix:${path}`), 'X', 0o600);
  t.equal(modeOf(path), 0o600);
});

t.test('the umask is restored if the socket cannot be bound', async t => {
  const before = process.umask();
  const bind = (): never => {
    throw failure('EACCES');
  };
  await t.rejects(bindAddress(bind, parse('unix:/nowhere/s'), 'X'), {
    message: 'X: cannot listen on unix:/nowhere/s: EACCES',
  });
  t.equal(process.umask(), before);
});

t.test('a stale socket file of a killed process is replaced', async t => {
  const path = join(tempDir(t), 's');
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.stdout.write('x'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  await t.rejects(
    listen(server(t), parse(`unix:${path}`), 'X'),
    { message: /EADDRINUSE/ },
    'a socket in use is not replaced',
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.ok(existsSync(path));
  await listen(server(t), parse(`unix:${path}`), 'X');
  const sent = request({ socketPath: path, path: '/' }).end();
  const [response] = await once(sent, 'response');
  t.equal(response.statusCode, 200);
  response.resume();
});

t.test('a file that is not a socket is not replaced', async t => {
  const directory = tempDir(t, { file: 'content' });
  const path = join(directory, 'file');
  symlinkSync(path, join(directory, 'link'));
  for (const target of [path, join(directory, 'link'), directory]) {
    const message = `X: cannot listen on unix:${target}: EADDRINUSE`;
    await t.rejects(listen(server(t), parse(`unix:${target}`), 'X'), { message });
  }
  t.equal(readFileSync(join(directory, 'link'), 'utf8'), 'content');
});

t.test('a socket in use receives only a connection attempt', async t => {
  const path = join(tempDir(t), 's');
  const live = createServer().listen(path);
  t.teardown(() => live.close());
  await once(live, 'listening');
  await t.rejects(listen(server(t), parse(`unix:${path}`), 'X'), { message: /EADDRINUSE/ });
  const connections = () => new Promise<number>(resolve => live.getConnections((_error, count) => resolve(count)));
  await until(async () => (await connections()) === 0);
  t.ok(existsSync(path));
});

t.test('listen leaves no error listener on the server', async t => {
  const listening = server(t);
  const before = listening.server.listenerCount('error');
  await listen(listening, parse('127.0.0.1:0'), 'X');
  t.equal(listening.server.listenerCount('error'), before);
});
