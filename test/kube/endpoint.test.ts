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

t.test('a dropped credential is read anew at once, and the same bundle stays the same', async t => {
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
  source.drop();
  const second = await source.current();
  t.strictSame(second.headers, { authorization: 'Bearer two' });
  t.equal(second.tls, first.tls);

  await volume.swap({ token: 'two', 'ca.crt': OTHER_CA });
  source.drop();
  t.equal(String((await source.current()).tls.ca), OTHER_CA);
});

t.test('between two looks at the disk nothing is made anew', async t => {
  const directory = t.testdir({ token: 'one', 'ca.crt': CA });
  const files = { tokenFile: join(directory, 'token'), caFile: join(directory, 'ca.crt') };
  const clock = fakeClock();
  const source = explicitEndpoint({ url, ...files, now: clock.now });
  /** Whether what it saw is what is told from then on. */
  const isKept = async (last: Promise<unknown>) => {
    await last;
    return source.current() === last;
  };
  const first = source.current();
  t.ok(await isKept(first));
  clock.advance(1000);
  const second = source.current();
  t.not(second, first);
  t.ok(await isKept(second));
  source.drop();
  const third = source.current();
  t.not(third, second);
  t.ok(await isKept(third));
  source.recheck();
  const fourth = source.current();
  t.not(fourth, third);
  t.ok(await isKept(fourth));
});

t.test('of looks that overlap none is kept: the one may have read what was there before the other', async t => {
  const tokenFile = join(t.testdir({ token: 'one' }), 'token');
  const source = explicitEndpoint({ url, tokenFile, caFile: undefined });
  const looks = [source.current(), source.current()];
  await Promise.all(looks);
  const next = source.current();
  t.notOk(looks.includes(next));
  await next;
  t.equal(source.current(), next);
});

t.test('a file that is not there names itself and the system’s code, and nothing once it is there', async t => {
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

t.test('a file that holds no token is an error that does not repeat what it holds', async t => {
  for (const content of ['', ' \n', 'two words', 'line\nline', 'not-ascii-é', 'control-\x00']) {
    const tokenFile = join(t.testdir({ token: content }), 'token');
    const source = explicitEndpoint({ url, tokenFile, caFile: undefined });
    await t.rejects(source.current(), new EndpointError(`token file ${tokenFile} does not hold a token`));
  }
  t.throws(() => bearer(Buffer.from([0xff, 0xfe]), 'the file'), new EndpointError('the file does not hold a token'));
});

t.test(
  'a token file that is being written is no reason to stop with the token that was read before, until that is refused',
  async t => {
    const tokenFile = join(t.testdir({ token: 'good' }), 'token');
    const clock = fakeClock();
    const source = explicitEndpoint({ url, tokenFile, caFile: undefined, now: clock.now });
    await source.current();
    await writeFile(tokenFile, '');
    clock.advance(1000);
    t.strictSame((await source.current()).headers, { authorization: 'Bearer good' });
    source.drop();
    await t.rejects(source.current(), new EndpointError(`token file ${tokenFile} does not hold a token`));
    await writeFile(tokenFile, 'new');
    clock.advance(1000);
    t.strictSame((await source.current()).headers, { authorization: 'Bearer new' });
  },
);

t.test('a CA bundle that is being written does not take the place of a whole one', async t => {
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
  t.equal((await source.current()).tls, first.tls, 'a second has not passed');
  source.recheck();
  t.equal(String((await source.current()).tls.ca), `${OTHER_CA}${CA}`);
  t.doesNotThrow(() => explicitEndpoint({ url, tokenFile: undefined, caFile: undefined }).recheck());
});
