import t from 'tap';
import { createCredentialRefresher, sameCredential } from '../../src/kube/credential-refresh.ts';
import type { EndpointSource, KubeEndpoint } from '../../src/kube/endpoint.ts';
import { fakeClock } from '../fixtures/clock.ts';

const TLS = {};
const endpointWith = (credential: string): KubeEndpoint => ({
  baseUrl: 'http://x',
  headers: { authorization: credential },
  tls: TLS,
  proxyUrl: undefined,
});

/** Creates a source whose credential changes with each invalidation, unless it is `stuck`. */
function rotatingSource(stuck = false) {
  let version = 1;
  const source: EndpointSource & { invalidations: number } = {
    invalidations: 0,
    current: async () => endpointWith(`credential ${stuck ? 1 : version}`),
    invalidate() {
      source.invalidations += 1;
      version += 1;
    },
    reloadTls() {},
  };
  return source;
}

t.test('100 requests rejected with the same credential cause one rotation', async t => {
  const source = rotatingSource();
  const { refresh } = createCredentialRefresher(fakeClock().now);
  const endpoints = await Promise.all(Array.from({ length: 100 }, () => refresh(source, endpointWith('credential 1'))));
  t.strictSame(new Set(endpoints.map(endpoint => endpoint.headers.authorization)), new Set(['credential 2']));
  t.equal(source.invalidations, 1);
});

t.test('a request rejected with a credential that was rotated meanwhile gets the rotated one', async t => {
  const source = rotatingSource();
  const { refresh } = createCredentialRefresher(fakeClock().now);
  await refresh(source, endpointWith('credential 1'));
  t.equal((await refresh(source, endpointWith('credential 1'))).headers.authorization, 'credential 2');
  t.equal(source.invalidations, 1);
});

t.test('a credential can be rotated again immediately after a rotation that changed it', async t => {
  const source = rotatingSource();
  const { refresh } = createCredentialRefresher(fakeClock().now);
  for (let i = 1; i <= 5; i += 1) await refresh(source, endpointWith(`credential ${i}`));
  t.equal(source.invalidations, 5);
});

t.test('after a rotation that changed nothing there is none for one second', async t => {
  const clock = fakeClock();
  const source = rotatingSource(true);
  const { refresh } = createCredentialRefresher(clock.now);
  const rejected = endpointWith('credential 1');
  for (let i = 0; i < 10; i += 1) t.ok(sameCredential(await refresh(source, rejected), rejected));
  t.equal(source.invalidations, 1);
  clock.advance(999);
  await refresh(source, rejected);
  t.equal(source.invalidations, 1);
  clock.advance(1);
  await refresh(source, rejected);
  t.equal(source.invalidations, 2);
});

t.test('if the rotated credential is rejected too, there is no rotation for one second', async t => {
  const clock = fakeClock();
  const source = rotatingSource();
  const { refresh, onFreshCredentialRejected } = createCredentialRefresher(clock.now);
  await refresh(source, endpointWith('credential 1'));
  onFreshCredentialRejected();
  await refresh(source, endpointWith('credential 2'));
  t.equal(source.invalidations, 1);
  clock.advance(1000);
  await refresh(source, endpointWith('credential 2'));
  t.equal(source.invalidations, 2);
});

t.test('a failed rotation fails for all its callers, and there is none for one second', async t => {
  const clock = fakeClock();
  const source = rotatingSource();
  const { current } = source;
  source.current = async () => {
    if (source.invalidations === 1) throw new Error('unreadable');
    return current();
  };
  const { refresh } = createCredentialRefresher(clock.now);
  const results = await Promise.allSettled([
    refresh(source, endpointWith('credential 1')),
    refresh(source, endpointWith('credential 1')),
  ]);
  t.strictSame(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  await t.rejects(refresh(source, endpointWith('credential 1')));
  t.equal(source.invalidations, 1);
});

t.test('a request rejected with another credential does not wait for a running rotation', async t => {
  const source = rotatingSource();
  const { refresh } = createCredentialRefresher(fakeClock().now);
  const first = refresh(source, endpointWith('credential 1'));
  const second = refresh(source, endpointWith('credential 0'));
  t.ok((await second).headers.authorization);
  t.equal((await first).headers.authorization, 'credential 2');
  t.equal(source.invalidations, 1);
});

t.test('a client certificate and a proxy’s header are part of the credential', async t => {
  t.ok(sameCredential(endpointWith('a'), endpointWith('a')));
  t.notOk(sameCredential(endpointWith('a'), endpointWith('b')));
  t.notOk(sameCredential(endpointWith('a'), { ...endpointWith('a'), tls: {} }));
  const behindDapr = { ...endpointWith('a'), headers: { authorization: 'a', 'dapr-api-token': 'b' } };
  t.notOk(sameCredential(endpointWith('a'), behindDapr));
  t.notOk(sameCredential({ ...behindDapr, headers: { ...behindDapr.headers, 'dapr-api-token': 'c' } }, behindDapr));
});
