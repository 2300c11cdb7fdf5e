import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { startFakeApiServer } from '../../src/dev/fake-api-server.ts';
import { type TokenRequest, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { type Reply, sendRequest } from '../fixtures/send-request.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { apiAudience, kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { denialOf, identityIn } from './fixtures/support/response-matchers.ts';
import { ServiceAccountKeys } from './fixtures/support/service-account-keys.ts';
import { until } from './fixtures/support/until.ts';

// `gatecar dev` and the unit tests use the embedded fake API server. This compares it with a real
// API server.

type Part = Record<string, unknown>;

/** Two tokens of the same kind: one for the real API server, one for the fake. */
interface Pair {
  readonly real: string;
  readonly embedded: string;
}

t.setTimeout(startLimitMs);

t.test('the fake API server answers like a real one', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const issuer = tokenIssuer();
  const fakeApiServer = await startFakeApiServer({ issuer });
  t.teardown(() => fakeApiServer.close());
  const [real, embedded] = await Promise.all([
    startGatecar(t, settings),
    startGatecar(t, { GATECAR_KUBE_API_URL: fakeApiServer.url }),
  ]);

  const now = Math.floor(Date.now() / 1_000);
  const request: TokenRequest = { namespace: 'apps', serviceAccount: 'web', audiences: ['bindcar'] };
  const claims = await api.claimsFor('apps', 'web', { aud: request.audiences });
  const validPair: Pair = { real: api.signToken(claims), embedded: issuer.issue(request) };

  const withAudiences = (...audiences: string[]): Pair => ({
    real: api.signToken({ ...claims, aud: audiences }),
    embedded: issuer.issue({ ...request, audiences }),
  });
  const between = (notBeforeSeconds: number, expiresInSeconds: number, audiences = request.audiences): Pair => ({
    real: api.signToken({ ...claims, aud: audiences, nbf: now + notBeforeSeconds, exp: now + expiresInSeconds }),
    embedded: issuer.issue({ ...request, audiences, notBeforeSeconds, expiresInSeconds }),
  });
  const unknownKeys = await ServiceAccountKeys.generate();
  /**
   * Both tokens with another header and payload, and with the old signature or one by an unknown
   * key.
   */
  const altered = (header: Part, payload: Part = {}, resign = false): Pair =>
    each(validPair, token => alter(token, header, payload, resign ? unknownKeys : undefined));

  const pairs: Record<string, Pair> = {
    valid: validPair,
    'for several audiences': withAudiences('other', 'bindcar'),
    'for another audience': withAudiences('other'),
    'for two others': withAudiences('other', 'x"y'),
    'for the API server': withAudiences(apiAudience),
    expired: between(-7_200, -3_600),
    'expired within the leeway': between(-7_200, -30),
    'not yet valid': between(3_600, 7_200),
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
    'signature cut off': each(validPair, token => token.replace(/[^.]*$/, '')),
    'signature halved': each(validPair, token => token.slice(0, -100)),
    'two parts': each(validPair, token => token.replace(/\.[^.]*$/, '')),
    'four parts': each(validPair, token => `${token}.x`),
    garbage: each(validPair, () => 'garbage'),
    'three parts of garbage': each(validPair, () => 'a.b.c'),
  };

  const passing = ['valid', 'for several audiences', 'expired within the leeway', 'not yet valid, within the leeway'];
  for (const [title, pair] of Object.entries(pairs)) {
    t.test(`${title}: the fake API server answers like the real one`, t =>
      assertSameResponse(t, pair, passing.includes(title) ? 200 : 401),
    );
  }

  t.test('token bound to a pod: the fake API server fills the same headers', async t => {
    const pod = await api.createPod('apps', 'web-0', { serviceAccount: 'web', nodeName: 'node-1' });
    const boundPod = { name: 'web-0', ...pod };
    const real = await api.requestToken('apps', 'web', { audiences: ['bindcar'], boundPod });
    await assertSameResponse(t, { real, embedded: issuer.issue({ ...request, pod: 'web-0', node: 'node-1' }) }, 200);
  });

  t.test('token of a deleted ServiceAccount: the fake API server answers like the real one', async t => {
    await api.createServiceAccount('apps', 'gone');
    const gone = await api.claimsFor('apps', 'gone', { aud: request.audiences });
    await api.deleteServiceAccount('apps', 'gone');
    fakeApiServer.deleteServiceAccount('apps', 'gone');
    await until('the API server knows of the deletion', async () => {
      const newToken = api.signToken({ ...gone, jti: randomUUID() });
      return !(await api.review(newToken, ['bindcar'])).authenticated;
    });
    for (const audiences of [['bindcar'], ['other']]) {
      const real = api.signToken({ ...gone, aud: audiences, jti: randomUUID() });
      await assertSameResponse(
        t,
        { real, embedded: issuer.issue({ ...request, serviceAccount: 'gone', audiences }) },
        401,
      );
    }
  });

  t.test('without a configured audience the fake API server answers like the real one', async t => {
    const noAudience = { GATECAR_TOKEN_AUDIENCES: '' };
    const gatecars = await Promise.all([
      startGatecar(t, { ...settings, ...noAudience }),
      startGatecar(t, { GATECAR_KUBE_API_URL: fakeApiServer.url, ...noAudience }),
    ]);
    await assertSameResponse(t, validPair, 401, gatecars);
    await assertSameResponse(t, withAudiences(apiAudience), 200, gatecars);
    await assertSameResponse(t, withAudiences('other', apiAudience), 200, gatecars);
  });

  async function assertSameResponse(
    t: Test,
    pair: Pair,
    status: number,
    [first, second] = [real, embedded],
  ): Promise<void> {
    const expected = await sendRequest(first.auth, { token: pair.real });
    const found = await sendRequest(second.auth, { token: pair.embedded });
    t.equal(expected.status, status);
    t.equal(found.status, status);
    if (status === 200) t.strictSame(withoutIds(found), withoutIds(expected));
    else t.strictSame(denialOf(found), denialOf(expected));
  }
});

function each({ real, embedded }: Pair, change: (token: string) => string): Pair {
  return { real: change(real), embedded: change(embedded) };
}

/** Returns a token with changed parts; `undefined` drops a field. */
function alter(token: string, header: Part, payload: Part, resigned: ServiceAccountKeys | undefined): string {
  const [h = '', p = '', signature = ''] = token.split('.');
  const decode = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString());
  if (resigned) return resigned.sign({ ...decode(p), ...payload }, { ...decode(h), ...header });
  const encode = (part: Part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  return `${encode({ ...decode(h), ...header })}.${encode({ ...decode(p), ...payload })}.${signature}`;
}

const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

/** Returns the identity headers, with ids that differ between objects replaced. */
function withoutIds({ rawHeaders }: Reply): Part {
  return Object.fromEntries(
    Object.entries(identityIn(rawHeaders)).map(([name, value]) => [name, value.replace(UUID, '<uuid>')]),
  );
}
