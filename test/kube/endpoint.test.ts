import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { bearer, EndpointError, explicitEndpoint } from '../../src/kube/endpoint.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';
import { pem } from '../fixtures/tls-server.ts';

const CA = pem('ca.crt');
const OTHER_CA = pem('other-ca.crt');
const url = 'http://127.0.0.1:8001/prefix';

t.test('an endpoint without files has no credential and uses the system trust store', async t => {
  const source = explicitEndpoint({ url, tokenFile: undefined, caFile: undefined });
  const endpoint = await source.current();
  t.strictSame(endpoint, { baseUrl: url, headers: {}, tls: {}, proxyUrl: undefined });
  source.invalidate();
  t.equal((await source.current()).tls, endpoint.tls);
});

t.test('the content of a token file, trimmed, is the credential', async t => {
  const directory = t.testdir({ token: '\n gatecar-token \r\n' });
  const source = explicitEndpoint({ url, tokenFile: join(directory, 'token'), caFile: undefined });
  t.strictSame((await source.current()).headers, { authorization: 'Bearer gatecar-token' });
});

t.test('a token and a CA bundle that the kubelet swaps take effect within a second', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one', 'ca.crt': CA });
  const clock = fakeClock();
  const source = explicitEndpoint({
    url,
    tokenFile: volume.path('token'),
    caFile: volume.path('ca.crt'),
    now: clock.now,
  });
  const first = await source.current();
  t.equal(String(first.tls.ca), CA);

  await volume.swap({ token: 'two', 'ca.crt': CA });
  t.strictSame(await source.current(), first);
  clock.advance(1000);
  const second = await source.current();
  t.strictSame(second.headers, { authorization: 'Bearer two' });
  t.equal(second.tls, first.tls, 'the same bundle keeps its connections');

  await volume.swap({ token: 'two', 'ca.crt': OTHER_CA });
  clock.advance(1000);
  const third = await source.current();
  t.equal(String(third.tls.ca), OTHER_CA);
  t.not(third.tls, second.tls);
});

t.test('a dropped credential is re-read immediately, and an unchanged CA bundle stays the same object', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one', 'ca.crt': CA });
  const clock = fakeClock();
  const source = explicitEndpoint({
    url,
    tokenFile: volume.path('token'),
    caFile: volume.path('ca.crt'),
    now: clock.now,
  });
  const first = await source.current();
  await volume.swap({ token: 'two', 'ca.crt': CA });
  source.invalidate();
  const second = await source.current();
  t.strictSame(second.headers, { authorization: 'Bearer two' });
  t.equal(second.tls, first.tls);

  await volume.swap({ token: 'two', 'ca.crt': OTHER_CA });
  source.invalidate();
  t.equal(String((await source.current()).tls.ca), OTHER_CA);
});

t.test('current() returns the same promise until the files are due to be read again', async t => {
  const directory = t.testdir({ token: 'one', 'ca.crt': CA });
  const files = { tokenFile: join(directory, 'token'), caFile: join(directory, 'ca.crt') };
  const clock = fakeClock();
  const source = explicitEndpoint({ url, ...files, now: clock.now });
  /** Whether the source still returns `latest` after it has settled. */
  const isReused = async (latest: Promise<unknown>) => {
    await latest;
    return source.current() === latest;
  };
  const first = source.current();
  t.ok(await isReused(first));
  clock.advance(1000);
  const second = source.current();
  t.not(second, first);
  t.ok(await isReused(second));
  source.invalidate();
  const third = source.current();
  t.not(third, second);
  t.ok(await isReused(third));
  source.reloadTls();
  const fourth = source.current();
  t.not(fourth, third);
  t.ok(await isReused(fourth));
});

t.test('the results of concurrent loads are not kept, since they may differ', async t => {
  const tokenFile = join(t.testdir({ token: 'one' }), 'token');
  const source = explicitEndpoint({ url, tokenFile, caFile: undefined });
  const loads = [source.current(), source.current()];
  await Promise.all(loads);
  const next = source.current();
  t.notOk(loads.includes(next));
  await next;
  t.equal(source.current(), next);
});

t.test('a missing file is an error with its path and the system’s code until it exists', async t => {
  const directory = t.testdir({ 'ca.crt': CA });
  const tokenFile = join(directory, 'token');
  const caFile = join(directory, 'ca.crt');
  const source = explicitEndpoint({ url, tokenFile, caFile });
  await t.rejects(source.current(), new EndpointError(`token file ${tokenFile} cannot be read: ENOENT`));
  await writeFile(tokenFile, 'here');
  t.strictSame((await source.current()).headers, { authorization: 'Bearer here' });

  await rm(caFile);
  const withoutCa = explicitEndpoint({ url, tokenFile, caFile });
  await t.rejects(withoutCa.current(), new EndpointError(`CA file ${caFile} cannot be read: ENOENT`));
});

t.test('a file without a valid token is an error that does not contain the file’s content', async t => {
  for (const content of ['', ' \n', 'two words', 'line\nline', 'not-ascii-é', 'control-\x00']) {
    const tokenFile = join(t.testdir({ token: content }), 'token');
    const source = explicitEndpoint({ url, tokenFile, caFile: undefined });
    await t.rejects(source.current(), new EndpointError(`token file ${tokenFile} does not hold a token`));
  }
  t.throws(() => bearer(Buffer.from([0xff, 0xfe]), 'the file'), new EndpointError('the file does not hold a token'));
});

t.test('the previous token is used while its file is being written, until the API server rejects it', async t => {
  const tokenFile = join(t.testdir({ token: 'previous' }), 'token');
  const clock = fakeClock();
  const source = explicitEndpoint({ url, tokenFile, caFile: undefined, now: clock.now });
  await source.current();
  await writeFile(tokenFile, '');
  clock.advance(1000);
  t.strictSame((await source.current()).headers, { authorization: 'Bearer previous' });
  source.invalidate();
  await t.rejects(source.current(), new EndpointError(`token file ${tokenFile} does not hold a token`));
  await writeFile(tokenFile, 'new');
  clock.advance(1000);
  t.strictSame((await source.current()).headers, { authorization: 'Bearer new' });
});

t.test('a partly written CA bundle does not replace a complete one', async t => {
  const caFile = join(t.testdir({ 'ca.crt': CA }), 'ca.crt');
  const clock = fakeClock();
  const source = explicitEndpoint({ url, tokenFile: undefined, caFile, now: clock.now });
  const first = await source.current();
  for (const partial of ['', OTHER_CA.slice(0, 100), `${OTHER_CA}${CA.slice(0, -20)}`]) {
    await writeFile(caFile, partial);
    clock.advance(1000);
    t.equal((await source.current()).tls, first.tls);
  }
  await writeFile(caFile, `${OTHER_CA}${CA}`);
  t.equal((await source.current()).tls, first.tls, 'less than a second has passed');
  source.reloadTls();
  t.equal(String((await source.current()).tls.ca), `${OTHER_CA}${CA}`);
  t.doesNotThrow(() => explicitEndpoint({ url, tokenFile: undefined, caFile: undefined }).reloadTls());
});
