import t from 'tap';
import { localHost, localTarget } from '../../src/cli/local-target.ts';
import { type Address, address } from '../../src/config/network-types.ts';

const parsed = (text: string) => address.parse(text) as Address;

t.test('a listener on all addresses is reached on loopback, and any other at its address', async t => {
  for (const [text, url] of [
    [':9080', 'http://127.0.0.1:9080'],
    ['0.0.0.0:9080', 'http://127.0.0.1:9080'],
    ['[::]:9080', 'http://127.0.0.1:9080'],
    ['[::1]:9080', 'http://[::1]:9080'],
    ['auth.example:9080', 'http://auth.example:9080'],
  ] as const) {
    t.strictSame(localTarget(parsed(text), 'http'), { url }, text);
  }
  t.strictSame(localTarget(parsed(':9080'), 'https'), { url: 'https://127.0.0.1:9080' });
});

t.test('a listener on a Unix socket is reached at its path', async t => {
  t.strictSame(localTarget(parsed('unix:/run/s'), 'https'), { url: 'https://localhost', socketPath: '/run/s' });
});

t.test('a host has no brackets, and keeps its zone', async t => {
  const hostOf = (text: string) => localHost(parsed(text) as Extract<Address, { kind: 'tcp' }>);
  t.equal(hostOf('[fe80::1%eth0]:9080'), 'fe80::1%eth0');
  t.equal(hostOf('localhost:9080'), 'localhost');
  t.equal(hostOf(':9080'), '127.0.0.1');
});
