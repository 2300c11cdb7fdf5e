import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { startFakeApiServer } from '../../src/dev/fake-api-server.ts';
import { type TokenRequest, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { ask, type Reply } from '../fixtures/ask.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { apiAudience, kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { identityIn, refusalOf } from './fixtures/support/response-matchers.ts';
import { ServiceAccountKeys } from './fixtures/support/service-account-keys.ts';
import { until } from './fixtures/support/until.ts';

// `gatecar dev` and the unit tests stand on the embedded authority: here it is held against a real API server.

type Part = Record<string, unknown>;

/** The same kind of token from each of the two. */
interface Pair {
  readonly real: string;
  readonly embedded: string;
}

t.setTimeout(startLimitMs);

t.test('the embedded authority', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const issuer = tokenIssuer();
  const authority = await startFakeApiServer({ issuer });
  t.teardown(() => authority.close());
  const [real, embedded] = await Promise.all([
    startGatecar(t, settings),
    startGatecar(t, { GATECAR_KUBE_API_URL: authority.url }),
  ]);

  const now = Math.floor(Date.now() / 1_000);
  const request: TokenRequest = { namespace: 'apps', serviceAccount: 'web', audiences: ['bindcar'] };
  const claims = await api.claimsFor('apps', 'web', { aud: request.audiences });
  const good: Pair = { real: api.signToken(claims), embedded: issuer.issue(request) };

  const withAudiences = (...audiences: string[]): Pair => ({
    real: api.signToken({ ...claims, aud: audiences }),
    embedded: issuer.issue({ ...request, audiences }),
  });
  const between = (notBeforeSeconds: number, expiresInSeconds: number, audiences = request.audiences): Pair => ({
    real: api.signToken({ ...claims, aud: audiences, nbf: now + notBeforeSeconds, exp: now + expiresInSeconds }),
    embedded: issuer.issue({ ...request, audiences, notBeforeSeconds, expiresInSeconds }),
  });
  const foreign = await ServiceAccountKeys.generate();
  /** Both with another header and payload, under the old signature or that of a key that neither knows. */
  const altered = (header: Part, payload: Part = {}, resign = false): Pair =>
    each(good, token => alter(token, header, payload, resign ? foreign : undefined));

  const pairs: Record<string, Pair> = {
    good: good,
    'for several audiences': withAudiences('other', 'bindcar'),
    'for another audience': withAudiences('other'),
    'for two others': withAudiences('other', 'x"y'),
    'for the API server': withAudiences(apiAudience),
    expired: between(-7_200, -3_600),
    'expired within the leeway': between(-7_200, -30),
    not_yet_valid: between(3_600, 7_200),
    'not yet valid, within the leeway': between(30, 7_200),
    'expired and for another audience': between(-7_200, -3_600, ['other']),
    'signed by another key': altered({}, {}, true),
    'signed by another key, without kid': altered({ kid: undefined }, {}, true),
    'unknown kid': altered({ kid: 'other' }),
    'unknown kid, signed by another key': altered({ kid: 'other' }, {}, true),
    'alg none': altered({ alg: 'none' }),
    'alg HS256': altered({ alg: 'HS256' }),
    'no alg': altered({ alg: undefined }),
    'another subject under the old signature': altered({}, { sub: 'system:serviceaccount:kube-system:root' }),
    'another issuer': altered({}, { iss: 'https://issuer.example' }),
    'signature cut off': each(good, token => token.replace(/[^.]*$/, '')),
    'signature halved': each(good, token => token.slice(0, -100)),
    'two parts': each(good, token => token.replace(/\.[^.]*$/, '')),
    'four parts': each(good, token => `${token}.x`),
    garbage: each(good, () => 'garbage'),
    'three parts of garbage': each(good, () => 'a.b.c'),
  };

  const passing = ['good', 'for several audiences', 'expired within the leeway', 'not yet valid, within the leeway'];
  for (const [title, pair] of Object.entries(pairs)) {
    t.test(`${title}: the same answer`, t => sameAnswer(t, pair, passing.includes(title) ? 200 : 401));
  }

  t.test('bound to a pod: the same headers are filled in', async t => {
    const pod = await api.createPod('apps', 'web-0', { serviceAccount: 'web', nodeName: 'node-1' });
    const boundPod = { name: 'web-0', ...pod };
    const real = await api.requestToken('apps', 'web', { audiences: ['bindcar'], boundPod });
    await sameAnswer(t, { real, embedded: issuer.issue({ ...request, pod: 'web-0', node: 'node-1' }) }, 200);
  });

  t.test('of a deleted ServiceAccount: the same answer', async t => {
    await api.createServiceAccount('apps', 'gone');
    const gone = await api.claimsFor('apps', 'gone', { aud: request.audiences });
    await api.deleteServiceAccount('apps', 'gone');
    authority.deleteServiceAccount('apps', 'gone');
    await until('the API server knows of the deletion', async () => {
      const fresh = api.signToken({ ...gone, jti: randomUUID() });
      return !(await api.review(fresh, ['bindcar'])).authenticated;
    });
    for (const audiences of [['bindcar'], ['other']]) {
      const real = api.signToken({ ...gone, aud: audiences, jti: randomUUID() });
      await sameAnswer(t, { real, embedded: issuer.issue({ ...request, serviceAccount: 'gone', audiences }) }, 401);
    }
  });

  t.test('asked for no audience: the same answers again', async t => {
    const none = { GATECAR_TOKEN_AUDIENCES: '' };
    const gatecars = await Promise.all([
      startGatecar(t, { ...settings, ...none }),
      startGatecar(t, { GATECAR_KUBE_API_URL: authority.url, ...none }),
    ]);
    await sameAnswer(t, good, 401, gatecars);
    await sameAnswer(t, withAudiences(apiAudience), 200, gatecars);
    await sameAnswer(t, withAudiences('other', apiAudience), 200, gatecars);
  });

  async function sameAnswer(t: Test, pair: Pair, status: number, [one, other] = [real, embedded]): Promise<void> {
    const expected = await ask(one.auth, { token: pair.real });
    const found = await ask(other.auth, { token: pair.embedded });
    t.equal(expected.status, status);
    t.equal(found.status, status);
    if (status === 200) t.strictSame(withoutIds(found), withoutIds(expected));
    else t.strictSame(refusalOf(found), refusalOf(expected));
  }
});

function each({ real, embedded }: Pair, change: (token: string) => string): Pair {
  return { real: change(real), embedded: change(embedded) };
}

/** A token with parts changed; `undefined` drops one. */
function alter(token: string, header: Part, payload: Part, resigned: ServiceAccountKeys | undefined): string {
  const [h = '', p = '', signature = ''] = token.split('.');
  const decode = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString());
  if (resigned) return resigned.sign({ ...decode(p), ...payload }, { ...decode(h), ...header });
  const encode = (part: Part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  return `${encode({ ...decode(h), ...header })}.${encode({ ...decode(p), ...payload })}.${signature}`;
}

const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

/** The identity headers; what differs from one object to the next is only checked for its form. */
function withoutIds({ rawHeaders }: Reply): Part {
  return Object.fromEntries(
    Object.entries(identityIn(rawHeaders)).map(([name, value]) => [name, value.replace(UUID, '<uuid>')]),
  );
}
