import t from 'tap';
import * as types from '../../src/config/network-types.ts';

const { parse: parseAddress } = types.address;

const times = (text: string, count: number): string => text.repeat(count);

t.test('an address is host:port, :port, [v6]:port or unix:/path', async t => {
  const tcp = (text: string, host: string | undefined, port: number) =>
    t.strictSame(parseAddress(text), { kind: 'tcp', host, port, text });
  tcp(':9080', undefined, 9080);
  tcp('127.0.0.1:0', '127.0.0.1', 0);
  tcp('my-host.example_1:65535', 'my-host.example_1', 65_535);
  tcp('[::]:9080', '::', 9080);
  tcp('[fe80::1%eth0]:9080', 'fe80::1%eth0', 9080);
  t.strictSame(parseAddress('unix:/run/a b.sock'), { kind: 'unix', path: '/run/a b.sock', text: 'unix:/run/a b.sock' });
});

t.test('invalid addresses are rejected', async t => {
  // biome-ignore format: a list of addresses
  const bad = [
    '', ':', '9080', 'host', 'host:', 'host:http', 'host:-1', 'host:65536', 'host:123456', ':9080 ', ' :9080',
    '::1:9080', '[::1]', '[::1]9080', '[]:9080', '[1.2.3.4]:9080', '[host]:9080', '[::1:9080', 'a:b:9080',
    'http://host:9080', 'ho st:9080', 'host/path:9080', 'hóst:9080', ':9080\n', 'host\n:9080',
    'unix:', 'unix:/', 'unix:relative', 'UNIX:/run/a', 'unix:/run/a\n', 'unix:/a\0b',
  ];
  for (const text of bad) t.equal(parseAddress(text), undefined, JSON.stringify(text));
});

t.test('a Unix socket’s path may have at most 107 bytes', async t => {
  t.ok(parseAddress(`unix:/${times('a', 106)}`));
  t.notOk(parseAddress(`unix:/${times('a', 107)}`));
  t.ok(parseAddress(`unix:/${times('é', 53)}`));
  t.notOk(parseAddress(`unix:/${times('é', 54)}`));
});

t.test('a trusted proxy is an address, a network or "unix"', async t => {
  const good = [
    '10.0.0.1',
    '10.0.0.0/8',
    '0.0.0.0/0',
    '192.0.2.1/32',
    '::1',
    'fd00::/8',
    '::/0',
    '::1/128',
    '::ffff:10.0.0.0/104',
    'unix',
  ];
  t.strictSame(types.peers.parse(good.join()), good);
  const bad = [
    '',
    'localhost',
    '10.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '::/129',
    '::1%eth0',
    'UNIX',
    'unix/8',
    '/8',
    '10.0.0.0/ 8',
    '10.0.0.0/0x8',
    '*',
  ];
  for (const text of bad) t.equal(types.peers.parse(text), undefined, text);
});

t.test('a header’s name has no underscore, because gateways treat it as a dash', async t => {
  for (const text of ['X-Real-IP', 'x', "!#$%&'*+-.^`|~9", times('a', 128)])
    t.equal(types.headerName.parse(text), text);
  for (const text of ['', 'X_Real_IP', 'a b', 'a:', 'é', 'a,b', 'a\n', times('a', 129)])
    t.equal(types.headerName.parse(text), undefined, JSON.stringify(text));
});

t.test('a header prefix ends with a dash', async t => {
  for (const text of ['X-', 'X-Auth-Request-', `${times('a', 39)}-`]) t.equal(types.headerPrefix.parse(text), text);
  for (const text of ['', '-', 'X', 'X_', '1-', 'X -', 'X-\r\nA-', `${times('a', 40)}-`])
    t.equal(types.headerPrefix.parse(text), undefined, JSON.stringify(text));
});

t.test('headers are name=value pairs, and names become lower case', async t => {
  const { parse } = types.headerPairs;
  t.strictSame(parse('Dapr-App-Id = kube-proxy.proxy-system\nx-a=b=c, x-empty='), {
    'dapr-app-id': 'kube-proxy.proxy-system',
    'x-a': 'b=c',
    'x-empty': '',
  });
  t.strictSame(parse(''), {});
  t.strictSame(parse('constructor=1'), { constructor: '1' });
  for (const text of ['a', '=b', 'no-equals-sign', 'a b=c', 'a_b=c', 'a=ü', 'a=b\0', 'a=1,A=2'])
    t.equal(parse(text), undefined, JSON.stringify(text));
});

t.test('headers of the connection, the body or gatecar’s own credential cannot be set', async t => {
  const names = [
    'Authorization',
    'Connection',
    'Content-Length',
    'Content-Type',
    'Expect',
    'Host',
    'Keep-Alive',
    'TE',
    'Transfer-Encoding',
    'Upgrade',
  ];
  for (const name of names) t.equal(types.headerPairs.parse(`x-a=b,${name}=c`), undefined, name);
});

t.test('the values of headers are never shown', async t => {
  t.equal(types.headerPairs.show?.('dapr-api-token=s3cret'), 'a value that is not shown');
});

t.test('a base URL is http or https, and trailing slashes are removed', async t => {
  const urls = {
    'https://kube.example': 'https://kube.example',
    'HTTPS://Kube.example:443/': 'https://kube.example',
    'http://127.0.0.1:8001': 'http://127.0.0.1:8001',
    'http://[::1]:8001/a/b//': 'http://[::1]:8001/a/b',
    'http://127.0.0.1:3500/v1.0/invoke/app.ns/method': 'http://127.0.0.1:3500/v1.0/invoke/app.ns/method',
  };
  for (const [text, url] of Object.entries(urls)) t.equal(types.baseUrl.parse(text), url, text);
});

t.test('a base URL has no credentials, query or fragment', async t => {
  const bad = [
    '',
    'kube.example',
    'kube.example:6443',
    '//kube.example',
    'https:',
    'https://',
    'https:kube.example',
    'ftp://a',
    'unix:/a',
    'https://a:b',
    'https://a b',
  ];
  const more = [
    'https://user@a',
    'https://user:pass@a',
    'https://:pass@a',
    'https://a?b',
    'https://a/?',
    'https://a#',
    'https://a/#b',
  ];
  for (const text of [...bad, ...more]) t.equal(types.baseUrl.parse(text), undefined, text);
});

t.test('a base URL is shown without credentials and query', async t => {
  t.equal(types.baseUrl.show?.('https://user:pa/s@s?@kube.example'), '"https://[credentials]@kube.example"');
  t.equal(types.baseUrl.show?.('kube.example:6443/a?token=b#c'), '"kube.example:6443/a?[not shown]"');
});

t.test('a socket mode is octal and lets its owner connect', async t => {
  const { parse } = types.socketMode;
  t.equal(parse('0660'), 0o660);
  t.equal(parse('600'), 0o600);
  t.equal(parse('0666'), 0o666);
  for (const bad of ['', '0755', '0060', '0460', '4660', '0o660', '432', '0660\n']) t.equal(parse(bad), undefined, bad);
});
