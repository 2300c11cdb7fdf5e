import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { bearer, EndpointError, errorCode, explicitEndpoint } from '../../src/authority/kube-endpoint.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';

const url = 'http://127.0.0.1:8001/prefix';

t.test('an address alone gives no credential and trusts what the system trusts', async t => {
  const source = explicitEndpoint({ url, tokenFile: undefined, caFile: undefined });
  const endpoint = await source.current();
  t.strictSame(endpoint, { baseUrl: url, headers: {}, tls: {}, proxyUrl: undefined });
  source.drop();
  t.equal((await source.current()).tls, endpoint.tls);
});

t.test('a token file gives our credential, whatever white space an editor left around it', async t => {
  const directory = t.testdir({ token: '\n our-token \r\n' });
  const source = explicitEndpoint({ url, tokenFile: join(directory, 'token'), caFile: undefined });
  t.strictSame((await source.current()).headers, { authorization: 'Bearer our-token' });
});

t.test('a token and a CA bundle that the kubelet swaps are followed within a second', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one', 'ca.crt': 'AAA' });
  const clock = fakeClock();
  const source = explicitEndpoint({
    url,
    tokenFile: volume.path('token'),
    caFile: volume.path('ca.crt'),
    now: clock.now,
  });
  const first = await source.current();
  t.equal(String(first.tls.ca), 'AAA');

  await volume.swap({ token: 'two', 'ca.crt': 'AAA' });
  t.strictSame(await source.current(), first);
  clock.advance(1000);
  const second = await source.current();
  t.strictSame(second.headers, { authorization: 'Bearer two' });
  t.equal(second.tls, first.tls, 'the same bundle keeps its connections');

  await volume.swap({ token: 'two', 'ca.crt': 'BBB' });
  clock.advance(1000);
  const third = await source.current();
  t.equal(String(third.tls.ca), 'BBB');
  t.not(third.tls, second.tls);
});

t.test('a dropped credential is read anew at once, and the same bundle stays the same', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one', 'ca.crt': 'AAA' });
  const clock = fakeClock();
  const source = explicitEndpoint({
    url,
    tokenFile: volume.path('token'),
    caFile: volume.path('ca.crt'),
    now: clock.now,
  });
  const first = await source.current();
  await volume.swap({ token: 'two', 'ca.crt': 'AAA' });
  source.drop();
  const second = await source.current();
  t.strictSame(second.headers, { authorization: 'Bearer two' });
  t.equal(second.tls, first.tls);

  await volume.swap({ token: 'two', 'ca.crt': 'BBB' });
  source.drop();
  t.equal(String((await source.current()).tls.ca), 'BBB');
});

t.test('a file that is not there names itself and the system’s code, and nothing once it is there', async t => {
  const directory = t.testdir({ 'ca.crt': 'AAA' });
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

t.test('a file that holds no token is an error that does not repeat what it holds', async t => {
  for (const content of ['', ' \n', 'two words', 'line\nline', 'not-ascii-é', 'control-\x00']) {
    const tokenFile = join(t.testdir({ token: content }), 'token');
    const source = explicitEndpoint({ url, tokenFile, caFile: undefined });
    await t.rejects(source.current(), new EndpointError(`token file ${tokenFile} does not hold a token`));
  }
  t.throws(() => bearer(Buffer.from([0xff, 0xfe]), 'the file'), new EndpointError('the file does not hold a token'));
});

t.test('an error has a code or an unknown one, never its message', async t => {
  t.equal(errorCode(Object.assign(new Error('secret'), { code: 'EACCES' })), 'EACCES');
  for (const strange of [new Error('secret'), { code: 7 }, 'secret', null, undefined]) {
    t.equal(errorCode(strange), 'unknown error');
  }
});
