import t from 'tap';
import { createCredentialRefresher, sameCredential } from '../../src/kube/credential-refresh.ts';
import type { EndpointSource, KubeEndpoint } from '../../src/kube/endpoint.ts';
import { fakeClock } from '../fixtures/clock.ts';

const TLS = {};
const shown = (credential: string): KubeEndpoint => ({
  ...{ baseUrl: 'http://x', headers: { authorization: credential }, tls: TLS, proxyUrl: undefined },
});

/** A source whose credential is another one after each drop, if it is not `stuck`. */
function renewing(stuck = false) {
  let made = 1;
  const source: EndpointSource & { drops: number } = {
    drops: 0,
    current: async () => shown(`credential ${stuck ? 1 : made}`),
    drop() {
      source.drops += 1;
      made += 1;
    },
    recheck() {},
  };
  return source;
}

t.test('a hundred that were refused the same credential have it renewed once', async t => {
  const source = renewing();
  const { renew } = createCredentialRefresher(fakeClock().now);
  const all = await Promise.all(Array.from({ length: 100 }, () => renew(source, shown('credential 1'))));
  t.strictSame(new Set(all.map(one => one.headers.authorization)), new Set(['credential 2']));
  t.equal(source.drops, 1);
});

t.test('who was refused what others have renewed since takes theirs', async t => {
  const source = renewing();
  const { renew } = createCredentialRefresher(fakeClock().now);
  await renew(source, shown('credential 1'));
  t.equal((await renew(source, shown('credential 1'))).headers.authorization, 'credential 2');
  t.equal(source.drops, 1);
});

t.test('a credential that is renewed to good purpose can be renewed again at once', async t => {
  const source = renewing();
  const { renew } = createCredentialRefresher(fakeClock().now);
  for (let i = 1; i <= 5; i += 1) await renew(source, shown(`credential ${i}`));
  t.equal(source.drops, 5);
});

t.test('after one in vain there is a pause of a second', async t => {
  const clock = fakeClock();
  const source = renewing(true);
  const { renew } = createCredentialRefresher(clock.now);
  const refused = shown('credential 1');
  for (let i = 0; i < 10; i += 1) t.ok(sameCredential(await renew(source, refused), refused));
  t.equal(source.drops, 1);
  clock.advance(999);
  await renew(source, refused);
  t.equal(source.drops, 1);
  clock.advance(1);
  await renew(source, refused);
  t.equal(source.drops, 2);
});

t.test('what was renewed and is refused too was in vain', async t => {
  const clock = fakeClock();
  const source = renewing();
  const { renew, inVain } = createCredentialRefresher(clock.now);
  await renew(source, shown('credential 1'));
  inVain();
  await renew(source, shown('credential 2'));
  t.equal(source.drops, 1);
  clock.advance(1000);
  await renew(source, shown('credential 2'));
  t.equal(source.drops, 2);
});

t.test('a renewal that fails is everybody’s, and has its pause', async t => {
  const clock = fakeClock();
  const source = renewing();
  const { current } = source;
  source.current = async () => {
    if (source.drops === 1) throw new Error('no');
    return current();
  };
  const { renew } = createCredentialRefresher(clock.now);
  const both = await Promise.allSettled([renew(source, shown('credential 1')), renew(source, shown('credential 1'))]);
  t.strictSame(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  await t.rejects(renew(source, shown('credential 1')));
  t.equal(source.drops, 1);
});

t.test('one that was refused something else does not wait for the others', async t => {
  const source = renewing();
  const { renew } = createCredentialRefresher(fakeClock().now);
  const first = renew(source, shown('credential 1'));
  const other = renew(source, shown('credential 0'));
  t.ok((await other).headers.authorization);
  t.equal((await first).headers.authorization, 'credential 2');
  t.equal(source.drops, 1);
});

t.test('a client certificate is a credential too, and so is what a proxy on the way asks for', async t => {
  t.ok(sameCredential(shown('a'), shown('a')));
  t.notOk(sameCredential(shown('a'), shown('b')));
  t.notOk(sameCredential(shown('a'), { ...shown('a'), tls: {} }));
  const behindDapr = { ...shown('a'), headers: { authorization: 'a', 'dapr-api-token': 'b' } };
  t.notOk(sameCredential(shown('a'), behindDapr));
  t.notOk(sameCredential({ ...behindDapr, headers: { ...behindDapr.headers, 'dapr-api-token': 'c' } }, behindDapr));
});
