import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import Fastify, { type FastifyInstance } from 'fastify';
import t, { type Test } from 'tap';
import { type Address, address } from '../../src/config/setting-types.ts';
import { bindAddress, listen } from '../../src/server/listen.ts';
import type { BindTarget } from '../../src/system/bind-server.ts';
import { scratch } from '../fixtures/temp-dir.ts';
import { until } from '../fixtures/until.ts';

function server(t: Test): FastifyInstance {
  const made = Fastify();
  made.get('/', (_request, reply) => reply.send('here'));
  t.teardown(() => made.close());
  return made;
}

const at = (text: string) => address.parse(text) as Address;

function failure(code: string): Error {
  return Object.assign(new Error(`listen ${code}`), { code });
}

t.test('it says where it listens', async t => {
  t.match(await listen(server(t), at('127.0.0.1:0'), 'X'), /^127\.0\.0\.1:\d+$/);
  t.match(await listen(server(t), at('[::1]:0'), 'X'), /^\[::1\]:\d+$/);
  const path = join(scratch(t), 's');
  t.equal(await listen(server(t), at(`unix:${path}`), 'X'), `unix:${path}`);
});

t.test('a port alone is every address, of IPv4 too where the machine has no IPv6', async t => {
  const targets: BindTarget[] = [];
  const bind = async (target: BindTarget) => {
    targets.push(target);
    if ('host' in target && target.host === '::') throw failure('EAFNOSUPPORT');
    return 'bound';
  };
  t.equal(await bindAddress(bind, at(':9080'), 'X'), 'bound');
  t.strictSame(targets, [
    { host: '::', port: 9080 },
    { host: '0.0.0.0', port: 9080 },
  ]);
  t.equal(await bindAddress(async target => ('host' in target ? target.host : ''), at(':1'), 'X'), '::');
});

t.test('an address that cannot be had is named with its setting and the cause', async t => {
  const taken = (await listen(server(t), at('127.0.0.1:0'), 'X')).split(':')[1];
  await t.rejects(listen(server(t), at(`127.0.0.1:${taken}`), 'GATECAR_LISTEN'), {
    name: 'ListenError',
    message: `GATECAR_LISTEN: cannot listen on 127.0.0.1:${taken}: EADDRINUSE`,
  });
  const fails = (error: unknown) => () => Promise.reject(error);
  await t.rejects(bindAddress(fails(failure('EACCES')), at(':80'), 'S'), {
    message: 'S: cannot listen on :80: EACCES',
  });
  await t.rejects(bindAddress(fails({}), at('h:80'), 'S'), { message: 'S: cannot listen on h:80: unknown error' });
});

t.test('a Unix socket has the mode that is asked for, and 0660 otherwise, whatever the umask', async t => {
  const directory = scratch(t);
  const modeOf = (path: string) => statSync(path).mode & 0o777;
  for (const umask of [0o000, 0o022, 0o077]) {
    const before = process.umask(umask);
    t.teardown(() => process.umask(before));
    for (const mode of [0o600, 0o660, 0o666, undefined]) {
      const path = join(directory, `${umask}-${mode}`);
      const made = createServer();
      t.teardown(() => made.close());
      let atBind: number | undefined;
      const bind = (target: BindTarget) => {
        const listening = new Promise<string>(resolve => made.listen(target, () => resolve('bound')));
        atBind = modeOf(path);
        return listening;
      };
      await bindAddress(bind, at(`unix:${path}`), 'X', mode);
      t.equal(atBind, mode ?? 0o660, 'from the first moment');
      t.equal(modeOf(path), mode ?? 0o660);
      t.equal(process.umask(), umask, 'the umask is as before');
    }
    process.umask(before);
  }
  const path = join(directory, 'http');
  await listen(server(t), at(`unix:${path}`), 'X', 0o600);
  t.equal(modeOf(path), 0o600);
});

t.test('the umask is as before if the socket cannot be bound', async t => {
  const before = process.umask();
  const bind = (): never => {
    throw failure('EACCES');
  };
  await t.rejects(bindAddress(bind, at('unix:/nowhere/s'), 'X'), {
    message: 'X: cannot listen on unix:/nowhere/s: EACCES',
  });
  t.equal(process.umask(), before);
});

t.test('a socket that a killed process left behind is taken over', async t => {
  const path = join(scratch(t), 's');
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.stdout.write('x'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  await t.rejects(listen(server(t), at(`unix:${path}`), 'X'), { message: /EADDRINUSE/ }, 'not from one that lives');
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.ok(existsSync(path));
  await listen(server(t), at(`unix:${path}`), 'X');
  const asked = request({ socketPath: path, path: '/' }).end();
  const [response] = await once(asked, 'response');
  t.equal(response.statusCode, 200);
  response.resume();
});

t.test('a file that is no socket is left alone', async t => {
  const directory = scratch(t, { precious: 'content' });
  const path = join(directory, 'precious');
  symlinkSync(path, join(directory, 'link'));
  for (const target of [path, join(directory, 'link'), directory]) {
    const message = `X: cannot listen on unix:${target}: EADDRINUSE`;
    await t.rejects(listen(server(t), at(`unix:${target}`), 'X'), { message });
  }
  t.equal(readFileSync(join(directory, 'link'), 'utf8'), 'content');
});

t.test('a live socket is only asked whether it lives', async t => {
  const path = join(scratch(t), 's');
  const live = createServer().listen(path);
  t.teardown(() => live.close());
  await once(live, 'listening');
  await t.rejects(listen(server(t), at(`unix:${path}`), 'X'), { message: /EADDRINUSE/ });
  const connections = () => new Promise<number>(resolve => live.getConnections((_error, count) => resolve(count)));
  await until(async () => (await connections()) === 0);
  t.ok(existsSync(path));
});

t.test('once it listens, an error is nobody’s who asked for that', async t => {
  const listening = server(t);
  const before = listening.server.listenerCount('error');
  await listen(listening, at('127.0.0.1:0'), 'X');
  t.equal(listening.server.listenerCount('error'), before);
});
