import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { EndpointError, type EndpointSource, explicitEndpoint } from '../../src/kube/endpoint.ts';
import { withExtraHeaders } from '../../src/kube/extra-headers.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';
import { pem } from '../fixtures/tls-server.ts';

const url = 'http://127.0.0.1:3500';
const source = (): EndpointSource => explicitEndpoint({ url, tokenFile: undefined, caFile: undefined });

t.test('extra headers are added to those of the endpoint, which is otherwise unchanged', async t => {
  const tokenFile = join(t.testdir({ token: 'gatecar-token' }), 'token');
  const plain = explicitEndpoint({ url, tokenFile, caFile: undefined });
  const added = withExtraHeaders(plain, {
    'dapr-app-id': 'kube-proxy.proxy-system',
    mail: 'a@/b',
    user: '@someone',
    at: '@',
  });
  const endpoint = await added.current();
  t.strictSame(endpoint, {
    baseUrl: url,
    headers: {
      authorization: 'Bearer gatecar-token',
      'dapr-app-id': 'kube-proxy.proxy-system',
      mail: 'a@/b',
      user: '@someone',
      at: '@',
    },
    tls: {},
    proxyUrl: undefined,
  });
  t.equal(endpoint.tls, (await plain.current()).tls, 'the same TLS object keeps its connections');
});

t.test(
  'a header value from a file follows the kubelet’s swap within a second, or immediately after a drop',
  async t => {
    const volume = await projectedVolume(t.testdir(), { token: ' one\n' });
    const clock = fakeClock();
    const added = withExtraHeaders(source(), { 'dapr-api-token': `@${volume.path('token')}` }, clock.now);
    const headers = async () => (await added.current()).headers;
    t.strictSame(await headers(), { 'dapr-api-token': 'one' });
    await volume.swap({ token: 'two' });
    t.strictSame(await headers(), { 'dapr-api-token': 'one' });
    clock.advance(1000);
    t.strictSame(await headers(), { 'dapr-api-token': 'two' });
    await volume.swap({ token: 'three' });
    added.invalidate();
    t.strictSame(await headers(), { 'dapr-api-token': 'three' });
  },
);

t.test('without extra headers the endpoint source is unchanged', async t => {
  const plain = source();
  t.equal(withExtraHeaders(plain, {}), plain);
});

t.test('invalidate() is forwarded to the wrapped endpoint source', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one' });
  const clock = fakeClock();
  const inner = explicitEndpoint({ url, tokenFile: volume.path('token'), caFile: undefined, now: clock.now });
  const added = withExtraHeaders(inner, { 'dapr-app-id': 'kube-proxy' });
  t.match((await added.current()).headers, { authorization: 'Bearer one' });
  await volume.swap({ token: 'two' });
  added.invalidate();
  t.match((await added.current()).headers, { authorization: 'Bearer two' });
});

t.test('reloadTls() is forwarded to the wrapped endpoint source', async t => {
  const [first, second] = [pem('ca.crt'), pem('other-ca.crt')];
  const caFile = join(t.testdir({ ca: first }), 'ca');
  const added = withExtraHeaders(explicitEndpoint({ url, tokenFile: undefined, caFile, now: fakeClock().now }), {
    'dapr-app-id': 'kube-proxy',
  });
  const trusted = async () => String((await added.current()).tls.ca);
  t.equal(await trusted(), String(first));
  await writeFile(caFile, second);
  t.equal(await trusted(), String(first));
  added.reloadTls();
  t.equal(await trusted(), String(second));
});

t.test('a missing or invalid header file is an error with path and header, without its content', async t => {
  const missing = withExtraHeaders(source(), { 'dapr-api-token': '@/not/there' });
  await t.rejects(
    missing.current(),
    new EndpointError('file /not/there of header dapr-api-token cannot be read: ENOENT'),
  );
  for (const content of ['', ' \n', 's3cret\nline', 's3crét', 's3cret\x00']) {
    const file = join(t.testdir({ token: content }), 'token');
    await t.rejects(
      withExtraHeaders(source(), { 'dapr-api-token': `@${file}` }).current(),
      new EndpointError(`file ${file} of header dapr-api-token does not hold a header's value`),
    );
  }
});
