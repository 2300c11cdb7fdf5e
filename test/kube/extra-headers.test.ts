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

t.test('headers stand beside those of the endpoint, which is the same otherwise', async t => {
  const tokenFile = join(t.testdir({ token: 'ours' }), 'token');
  const plain = explicitEndpoint({ url, tokenFile, caFile: undefined });
  const added = withExtraHeaders(plain, {
    'dapr-app-id': 'kube-proxy.proxy-system',
    mail: 'a@/b',
    user: '@nobody',
    at: '@',
  });
  const endpoint = await added.current();
  t.strictSame(endpoint, {
    baseUrl: url,
    headers: {
      authorization: 'Bearer ours',
      'dapr-app-id': 'kube-proxy.proxy-system',
      mail: 'a@/b',
      user: '@nobody',
      at: '@',
    },
    tls: {},
    proxyUrl: undefined,
  });
  t.equal(endpoint.tls, (await plain.current()).tls, 'and keeps its connections');
});

t.test(
  'a value from a file is followed when the kubelet swaps it, within a second or at once after a refusal',
  async t => {
    const volume = await projectedVolume(t.testdir(), { token: ' one\n' });
    const clock = fakeClock();
    const added = withExtraHeaders(source(), { 'dapr-api-token': `@${volume.path('token')}` }, clock.now);
    const shown = async () => (await added.current()).headers;
    t.strictSame(await shown(), { 'dapr-api-token': 'one' });
    await volume.swap({ token: 'two' });
    t.strictSame(await shown(), { 'dapr-api-token': 'one' });
    clock.advance(1000);
    t.strictSame(await shown(), { 'dapr-api-token': 'two' });
    await volume.swap({ token: 'three' });
    added.drop();
    t.strictSame(await shown(), { 'dapr-api-token': 'three' });
  },
);

t.test('without any, the endpoint is as it was', async t => {
  const plain = source();
  t.equal(withExtraHeaders(plain, {}), plain);
});

t.test('what is dropped is dropped below, too', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one' });
  const clock = fakeClock();
  const below = explicitEndpoint({ url, tokenFile: volume.path('token'), caFile: undefined, now: clock.now });
  const added = withExtraHeaders(below, { 'dapr-app-id': 'kube-proxy' });
  t.match((await added.current()).headers, { authorization: 'Bearer one' });
  await volume.swap({ token: 'two' });
  added.drop();
  t.match((await added.current()).headers, { authorization: 'Bearer two' });
});

t.test('what is looked at again is looked at below', async t => {
  const [first, second] = [pem('ca.crt'), pem('other-ca.crt')];
  const caFile = join(t.testdir({ ca: first }), 'ca');
  const added = withExtraHeaders(explicitEndpoint({ url, tokenFile: undefined, caFile, now: fakeClock().now }), {
    'dapr-app-id': 'kube-proxy',
  });
  const trusted = async () => String((await added.current()).tls.ca);
  t.equal(await trusted(), String(first));
  await writeFile(caFile, second);
  t.equal(await trusted(), String(first));
  added.recheck();
  t.equal(await trusted(), String(second));
});

t.test('a file that is not there, or holds no value, is named with its header and not repeated', async t => {
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
