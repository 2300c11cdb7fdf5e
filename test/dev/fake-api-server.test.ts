import t, { type Test } from 'tap';
import { type FakeApiServer, startFakeApiServer } from '../../src/dev/fake-api-server.ts';
import { ISSUER, type TokenRequest, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { sendRaw, sendRequest } from '../fixtures/send-request.ts';

const PATH = '/apis/authentication.k8s.io/v1/tokenreviews';
const issuer = tokenIssuer();
const issue = (request: Partial<TokenRequest> = {}) =>
  issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'], ...request });

async function start(t: Test): Promise<FakeApiServer> {
  const apiServer = await startFakeApiServer({ issuer });
  t.teardown(() => apiServer.close());
  return apiServer;
}

async function review(apiServer: FakeApiServer, token: string, audiences: string[] | null = ['bindcar']) {
  const body = JSON.stringify({
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences },
  });
  const reply = await sendRequest(apiServer.url, { method: 'POST', path: PATH, body });
  return { status: reply.status, review: JSON.parse(reply.body) };
}

t.test('a fake review of a valid token returns user, groups, pod, node and common audiences', async t => {
  const apiServer = await start(t);
  const { status, review: body } = await review(apiServer, issue({ pod: 'p', node: 'n' }), ['x', 'bindcar']);
  t.equal(status, 201);
  t.match(body, {
    kind: 'TokenReview',
    apiVersion: 'authentication.k8s.io/v1',
    status: {
      authenticated: true,
      audiences: ['bindcar'],
      user: {
        username: 'system:serviceaccount:default:my-app',
        uid: issuer.uidOf('serviceaccount', 'default', 'my-app'),
        groups: ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'],
        extra: {
          'authentication.kubernetes.io/pod-name': ['p'],
          'authentication.kubernetes.io/node-name': ['n'],
          'authentication.kubernetes.io/credential-id': [/^JTI=/],
        },
      },
    },
  });
  t.equal(apiServer.reviews, 1);
});

t.test('the fake API server publishes its issuer and JWKS', async t => {
  const apiServer = await start(t);
  const get = async (path: string) => (await fetch(apiServer.url + path)).json();
  t.match(await get('/.well-known/openid-configuration'), { issuer: 'https://kubernetes.default.svc' });
  t.strictSame(await get('/openid/v1/jwks'), issuer.jwks);
});

t.test('the fake API server rejects tokens with the API server’s error texts', async t => {
  const apiServer = await start(t);
  apiServer.deleteServiceAccount('default', 'gone');
  const otherIssuer = tokenIssuer();
  const wrongKey = otherIssuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
  const [header, payload] = issue().split('.');
  const cases: [token: string, error: string][] = [
    ['garbage', 'invalid bearer token'],
    [wrongKey, '[invalid bearer token, invalid signature, no keys found]'],
    [
      `${header}.${payload}.${wrongKey.split('.')[2]}`,
      '[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]',
    ],
    [
      issue({ audiences: ['a', 'b'] }),
      '[invalid bearer token, token audiences ["a" "b"] is invalid for the target audiences ["bindcar"]]',
    ],
    [issue({ expiresInSeconds: -61 }), '[invalid bearer token, service account token has expired]'],
    [issue({ notBeforeSeconds: 90 }), '[invalid bearer token, service account token is not valid yet]'],
    [issue({ serviceAccount: 'gone' }), '[invalid bearer token, serviceaccounts "gone" not found]'],
  ];
  for (const [token, error] of cases) {
    const answer = await review(apiServer, token);
    t.equal(answer.status, 201);
    t.strictSame(answer.review.status, { user: {}, error }, error);
  }
});

t.test('the fake API server applies the leeway of the API server', async t => {
  const apiServer = await start(t);
  t.match(await review(apiServer, issue({ expiresInSeconds: -30, notBeforeSeconds: 30 })), {
    review: { status: { authenticated: true } },
  });
});

t.test('a fake review without audiences requires a token for the API server itself', async t => {
  const apiServer = await start(t);
  const forApiServer = issue({ audiences: [ISSUER] });
  t.match(await review(apiServer, forApiServer, null), { review: { status: { audiences: [ISSUER] } } });
  t.match(await review(apiServer, forApiServer, []), { review: { status: { authenticated: true } } });
  t.match(await review(apiServer, issue(), []), { review: { status: { error: /target audiences/ } } });
});

t.test('a request that is not a TokenReview is rejected and not counted', async t => {
  const apiServer = await start(t);
  t.match(await sendRequest(apiServer.url, { path: PATH }), { status: 404 });
  t.match(await sendRequest(apiServer.url, { method: 'POST', path: '/x', body: '{}' }), { status: 404 });
  for (const body of [
    '',
    '{',
    '{"kind":"Pod"}',
    '{"kind":"Pod","spec":{"token":"abc"}}',
    '{"kind":"TokenReview"}',
    '{"kind":"TokenReview","spec":{"token":1}}',
  ]) {
    t.match(await sendRequest(apiServer.url, { method: 'POST', path: PATH, body }), { status: 400 }, body);
  }
  const tooLong = `POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1100000\r\n\r\n${'x'.repeat(1_100_000)}`;
  t.equal(await sendRaw(apiServer.url, tooLong).catch(() => ''), '', 'a body beyond the limit gets no response');
  t.equal(apiServer.reviews, 0);
});
