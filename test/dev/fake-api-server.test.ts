import t, { type Test } from 'tap';
import { type FakeApiServer, startFakeApiServer } from '../../src/dev/fake-api-server.ts';
import { ISSUER, type TokenRequest, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { ask, askRaw } from '../fixtures/ask.ts';

const PATH = '/apis/authentication.k8s.io/v1/tokenreviews';
const issuer = tokenIssuer();
const issue = (request: Partial<TokenRequest> = {}) =>
  issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'], ...request });

async function start(t: Test): Promise<FakeApiServer> {
  const authority = await startFakeApiServer({ issuer });
  t.teardown(() => authority.close());
  return authority;
}

async function review(authority: FakeApiServer, token: string, audiences: string[] | null = ['bindcar']) {
  const body = JSON.stringify({
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences },
  });
  const reply = await ask(authority.url, { method: 'POST', path: PATH, body });
  return { status: reply.status, review: JSON.parse(reply.body) };
}

t.test('a yes names the user, the groups, pod and node, and the audiences both sides have', async t => {
  const authority = await start(t);
  const { status, review: answer } = await review(authority, issue({ pod: 'p', node: 'n' }), ['x', 'bindcar']);
  t.equal(status, 201);
  t.match(answer, {
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
  t.equal(authority.reviews, 1);
});

t.test('what it publishes about its tokens is read as the API server’s would be', async t => {
  const authority = await start(t);
  const get = async (path: string) => (await fetch(authority.url + path)).json();
  t.match(await get('/.well-known/openid-configuration'), { issuer: 'https://kubernetes.default.svc' });
  t.strictSame(await get('/openid/v1/jwks'), issuer.jwks);
});

t.test('a no has the texts of the API server', async t => {
  const authority = await start(t);
  authority.deleteServiceAccount('default', 'gone');
  const other = tokenIssuer();
  const wrong = other.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
  const [header, payload] = issue().split('.');
  const cases: [token: string, error: string][] = [
    ['garbage', 'invalid bearer token'],
    [wrong, '[invalid bearer token, invalid signature, no keys found]'],
    [
      `${header}.${payload}.${wrong.split('.')[2]}`,
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
    const answer = await review(authority, token);
    t.equal(answer.status, 201);
    t.strictSame(answer.review.status, { user: {}, error }, error);
  }
});

t.test('the leeway of the API server counts', async t => {
  const authority = await start(t);
  t.match(await review(authority, issue({ expiresInSeconds: -30, notBeforeSeconds: 30 })), {
    review: { status: { authenticated: true } },
  });
});

t.test('without audiences a token must be for the API server itself', async t => {
  const authority = await start(t);
  const forApiServer = issue({ audiences: [ISSUER] });
  t.match(await review(authority, forApiServer, null), { review: { status: { audiences: [ISSUER] } } });
  t.match(await review(authority, forApiServer, []), { review: { status: { authenticated: true } } });
  t.match(await review(authority, issue(), []), { review: { status: { error: /target audiences/ } } });
});

t.test('what is no TokenReview request is refused, and never counted', async t => {
  const authority = await start(t);
  t.match(await ask(authority.url, { path: PATH }), { status: 404 });
  t.match(await ask(authority.url, { method: 'POST', path: '/x', body: '{}' }), { status: 404 });
  for (const body of [
    '',
    '{',
    '{"kind":"Pod"}',
    '{"kind":"Pod","spec":{"token":"abc"}}',
    '{"kind":"TokenReview"}',
    '{"kind":"TokenReview","spec":{"token":1}}',
  ]) {
    t.match(await ask(authority.url, { method: 'POST', path: PATH, body }), { status: 400 }, body);
  }
  const tooLong = `POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1100000\r\n\r\n${'x'.repeat(1_100_000)}`;
  t.equal(await askRaw(authority.url, tooLong).catch(() => ''), '', 'a body without end gets no answer');
  t.equal(authority.reviews, 0);
});
