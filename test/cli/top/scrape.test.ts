import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { scrape, targetOfAddress, targetOfUrl } from '../../../src/cli/top/scrape.ts';
import { type Address, address } from '../../../src/config/network-types.ts';
import { tempDir } from '../../fixtures/temp-dir.ts';

async function serve(t: Test, listenOn: number | string, status = 200) {
  const server = createServer((request, response) => response.writeHead(status).end(`asked ${request.url}\n`));
  server.listen(...((typeof listenOn === 'string' ? [listenOn] : [listenOn, '127.0.0.1']) as [string]));
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server;
}

const ofAddress = (text: string) => targetOfAddress(address.parse(text) as Address);

t.test('the address of the listener is asked on this machine', async t => {
  t.strictSame(ofAddress(':9081'), { url: 'http://127.0.0.1:9081/metrics', shown: 'http://127.0.0.1:9081' });
  for (const every of ['0.0.0.0:1', '[::]:1']) t.equal(ofAddress(every).shown, 'http://127.0.0.1:1');
  t.equal(ofAddress('ops.example:1').url, 'http://ops.example:1/metrics');
  t.equal(ofAddress('[::1]:1').url, 'http://[::1]:1/metrics');
  t.match(ofAddress('unix:/run/ops'), { socketPath: '/run/ops', shown: 'unix:/run/ops' });
});

t.test('a URL is that of the listener, or that of its metrics, also behind a path', async t => {
  for (const url of ['http://a:1', 'http://a:1/', 'http://a:1/metrics']) {
    t.strictSame(targetOfUrl(url), { url: 'http://a:1/metrics', shown: 'http://a:1' });
  }
  t.equal(targetOfUrl('http://a:1/proxy/').url, 'http://a:1/proxy/metrics');
});

t.test('any other URL is an error of usage, which does not repeat it', async t => {
  for (const url of [undefined, '', 'a:1', 'https://a', 'http://user:precious@a', 'http://:precious@a']) {
    const error = t.throws(() => targetOfUrl(url), { name: 'UsageError', message: /^--url must be an http URL/ });
    t.notMatch(String(error), 'precious');
  }
});

t.test('the metrics are read over TCP and over a Unix socket', async t => {
  const server = await serve(t, 0);
  const { port } = server.address() as AddressInfo;
  t.equal(await scrape(targetOfUrl(`http://127.0.0.1:${port}`)), 'asked /metrics\n');
  const path = `${tempDir(t)}/s`;
  await serve(t, path);
  t.equal(await scrape(ofAddress(`unix:${path}`)), 'asked /metrics\n');
});

t.test('another status and no response are errors', async t => {
  const { port } = (await serve(t, 0, 404)).address() as AddressInfo;
  await t.rejects(scrape(targetOfUrl(`http://127.0.0.1:${port}`)), { message: 'HTTP 404' });
  await t.rejects(scrape(targetOfUrl('http://127.0.0.1:1')), { message: /ECONNREFUSED/ });
});
