import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { type Rejected, unavailable } from '../../src/authentication/token-authenticator.ts';
import {
  INVALID_BEARER_TOKEN,
  parseTokenReviewResponse,
  rejected,
} from '../../src/authentication/token-review-response.ts';
import { revealToken, Token } from '../../src/credential/token.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';

const token = unsignedJwt({ sub: 'system:serviceaccount:default:my-app' });
const SECRET = revealToken(token);
const NOT_A_REVIEW = unavailable('invalid_response');

const user = {
  username: 'system:serviceaccount:default:my-app',
  uid: '0f6e4c5e-8f2b-4d2c-9a53-1d6f4f1f7a10',
  groups: ['system:serviceaccounts', 'system:authenticated'],
  extra: {
    'authentication.kubernetes.io/pod-name': ['my-app-0'],
    'authentication.kubernetes.io/credential-id': ['JTI=5f0c'],
  },
};
const authenticated = { authenticated: true, user, audiences: ['bindcar'] };

function review(status: unknown, more: Record<string, unknown> = {}): unknown {
  const spec = { token: SECRET, audiences: ['bindcar'] };
  return { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: {}, spec, status, ...more };
}

function read(
  body: unknown,
  { status = 201, requested = ['bindcar'], retryAfterSeconds = undefined as number | undefined } = {},
) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return parseTokenReviewResponse({ status, body: text, retryAfterSeconds }, token, requested);
}

t.test('an authenticated result contains the user and the accepted audiences', async t => {
  for (const status of [200, 201]) {
    t.match(read(review(authenticated), { status }), {
      kind: 'authenticated',
      identity: {
        username: user.username,
        uid: user.uid,
        groups: user.groups,
        serviceAccount: { namespace: 'default', name: 'my-app' },
        pod: 'my-app-0',
        node: '',
        credentialId: 'JTI=5f0c',
        audiences: ['bindcar'],
      },
    });
  }
});

t.test('a user with only a username is authenticated', async t => {
  for (const rest of [{}, { groups: null }, { extra: null }, { groups: [], extra: {}, uid: '' }]) {
    const result = read(review({ ...authenticated, user: { username: 'jane', ...rest } }));
    t.match(result, {
      kind: 'authenticated',
      identity: { username: 'jane', uid: '', groups: [], serviceAccount: undefined },
    });
  }
});

t.test('only those confirmed audiences count that were requested', async t => {
  const result = read(review({ ...authenticated, audiences: ['other', 'second', 'first'] }), {
    requested: ['first', 'second', 'third'],
  });
  t.match(result, { kind: 'authenticated', identity: { audiences: ['first', 'second'] } });
});

t.test('an authenticated review that confirms no requested audience is a rejection', async t => {
  for (const audiences of [undefined, [], ['https://kubernetes.default.svc'], ['bindca'], ['BINDCAR']]) {
    t.strictSame(read(review({ ...authenticated, audiences })), rejected('audience_mismatch', ''));
  }
});

t.test('if no audience was requested, the result has the audiences of the response', async t => {
  const audiences = ['https://kubernetes.default.svc'];
  t.match(read(review({ ...authenticated, audiences }), { requested: [] }), {
    kind: 'authenticated',
    identity: { audiences },
  });
  t.match(read(review({ ...authenticated, audiences: undefined }), { requested: [] }), {
    kind: 'authenticated',
    identity: { audiences: [] },
  });
});

t.test('an authenticated review without a user or username is a rejection', async t => {
  for (const user of [undefined, null, {}, { username: '' }, { uid: 'x', groups: ['g'] }]) {
    t.strictSame(read(review({ ...authenticated, user })), rejected('user_missing', ''));
  }
});

t.test('the anonymous user is rejected by username and by group', async t => {
  for (const anonymous of [
    { username: 'system:anonymous' },
    { username: 'system:anonymous', groups: ['system:authenticated'] },
    { username: 'jane', groups: ['system:authenticated', 'system:unauthenticated'] },
  ]) {
    t.strictSame(read(review({ ...authenticated, user: anonymous })), rejected('token_rejected', INVALID_BEARER_TOKEN));
    t.strictSame(read(review({ ...authenticated, user: anonymous }), { requested: [] }).kind, 'rejected');
  }
});

t.test('a rejection has the API server’s error text, or a default text if there is none', async t => {
  const text = '[invalid bearer token, service account token has expired]';
  t.strictSame(read(review({ error: text })), rejected('token_rejected', text));
  t.strictSame(read(review({ authenticated: false, error: text, user: {} })), rejected('token_rejected', text));
  for (const status of [{}, { authenticated: false }, { error: '' }, { error: ' \n ' }]) {
    t.strictSame(read(review(status)), rejected('token_rejected', 'Token not authenticated'));
  }
});

t.test('an unauthenticated review is a rejection, even with a user and audiences', async t => {
  t.strictSame(
    read(review({ ...authenticated, authenticated: false })),
    rejected('token_rejected', 'Token not authenticated'),
  );
  t.equal(read(review({ user: 7, audiences: ['bindcar'] })).kind, 'rejected');
});

t.test('the text of a rejection is one line of printable ASCII, at most 512 characters', async t => {
  const result = read(review({ error: ` first line\r\nsecond “line”\0${'x'.repeat(2000)}` }));
  const { detail } = result as Rejected;
  t.match(detail, /^[\x20-\x7e]+$/);
  t.equal(detail.length, 512);
  t.ok(decodeURIComponent(detail).startsWith('first line\r\nsecond “line”\0xxx'));
});

t.test('the text of a rejection contains neither the reviewed token nor any other token', async t => {
  const gatecarToken = revealToken(unsignedJwt({ sub: 'system:serviceaccount:gatecar:gatecar' }));
  const result = read(review({ error: `no such token: ${SECRET} (${SECRET}), sent with ${gatecarToken}` }));
  t.match(result, { kind: 'rejected', detail: 'no such token: [token] ([token]), sent with [token]' });
});

t.test('the text of a rejection contains no encoded or partial token', async t => {
  const percent = [...SECRET].map(character => `%${character.charCodeAt(0).toString(16)}`).join('');
  for (const copy of [percent, btoa(SECRET), btoa(`a:${SECRET}`), SECRET.slice(-40), SECRET.slice(0, 40)]) {
    const { detail } = read(review({ error: `no such token: ${copy}` })) as Rejected;
    t.match(detail, /^(no such token: )?\[token\]$/, copy);
  }
});

t.test('a response whose username contains the encoded token is invalid', async t => {
  for (const username of [btoa(`a:${SECRET}`), encodeURIComponent(SECRET).replaceAll('.', '%2E')]) {
    t.strictSame(read(review({ ...authenticated, user: { ...user, username } })), unavailable('invalid_response'));
  }
});

t.test('a response whose user contains the token is invalid, so that no header or log repeats it', async t => {
  const users = [
    { ...user, username: SECRET },
    { ...user, uid: `uid of ${SECRET}` },
    { ...user, groups: ['group', SECRET] },
    { ...user, extra: { 'authentication.kubernetes.io/node-name': [SECRET] } },
  ];
  for (const user of users) {
    const result = read(review({ ...authenticated, user }));
    t.strictSame(result, unavailable('invalid_response'));
  }
});

t.test('a token as short as a word is not removed from the API server’s error text', async t => {
  const body = JSON.stringify(review({ error: 'invalid bearer token' }));
  const result = parseTokenReviewResponse({ status: 201, body, retryAfterSeconds: undefined }, new Token('token'), [
    'bindcar',
  ]);
  t.match(result, { kind: 'rejected', detail: 'invalid bearer token' });
});

t.test('a username may contain a token as short as a word', async t => {
  const response = { status: 201, body: JSON.stringify(review({ ...authenticated, user: { username: 'jane-doe' } })) };
  const short = new Token('jane');
  t.equal(
    parseTokenReviewResponse({ ...response, retryAfterSeconds: undefined }, short, ['bindcar']).kind,
    'authenticated',
  );
  const secret = new Token('x'.repeat(16));
  const body = JSON.stringify(review({ ...authenticated, user: { username: 'x'.repeat(16) } }));
  t.equal(
    parseTokenReviewResponse({ status: 201, body, retryAfterSeconds: undefined }, secret, ['bindcar']).kind,
    'unavailable',
  );
});

t.test('an unexpected HTTP status is unavailable, with a cause for each class', async t => {
  const causes = {
    401: 'unauthorized',
    403: 'forbidden',
    429: 'too_many_requests',
    500: 'server_error',
    503: 'server_error',
    599: 'server_error',
    202: 'unexpected_status',
    204: 'unexpected_status',
    302: 'unexpected_status',
    400: 'unexpected_status',
    404: 'unexpected_status',
    413: 'unexpected_status',
  } as const;
  for (const [status, cause] of Object.entries(causes)) {
    t.strictSame(
      read(review(authenticated), { status: Number(status) }),
      unavailable(cause),
      `${status} with an authenticated body`,
    );
  }
});

t.test('an unavailable result has the API server’s Retry-After, limited to a minute', async t => {
  for (const status of [401, 403, 429, 500, 404]) {
    for (const [retryAfterSeconds, limited] of [
      [7, 7],
      [0, 0],
      [60, 60],
      [3600, 60],
      [undefined, 1],
    ] as const) {
      t.match(read('', { status, retryAfterSeconds }), { retryAfterSeconds: limited });
    }
  }
});

t.test('a body other than a TokenReview v1 is unavailable', async t => {
  const bodies: Record<string, unknown> = {
    'an empty body': '',
    HTML: '<html><body>Welcome</body></html>',
    'cut JSON': JSON.stringify(review(authenticated)).slice(0, -1),
    'a JSON text': '"authenticated"',
    null: 'null',
    'a list': [review(authenticated)],
    'an empty object': {},
    'another kind': review(authenticated, { kind: 'SubjectAccessReview' }),
    'a Status': { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 500 },
    'another version': review(authenticated, { apiVersion: 'authentication.k8s.io/v1beta1' }),
    'no version': review(authenticated, { apiVersion: undefined }),
    'no status': review(undefined),
    'a null status': review(null),
    'a status that is a list': review([authenticated]),
    'a status that is a text': review('authenticated'),
  };
  for (const [name, body] of Object.entries(bodies)) t.strictSame(read(body), NOT_A_REVIEW, name);
});

t.test('a TokenReview status with wrong types is unavailable', async t => {
  const statuses: Record<string, unknown> = {
    'authenticated as text': { ...authenticated, authenticated: 'true' },
    'authenticated as number': { ...authenticated, authenticated: 1 },
    'authenticated as null': { ...authenticated, authenticated: null },
    'error as object': { error: { message: 'no' } },
    'audiences as text': { ...authenticated, audiences: 'bindcar' },
    'audiences of numbers': { ...authenticated, audiences: ['bindcar', 7] },
    'user as text': { ...authenticated, user: 'jane' },
    'user as list': { ...authenticated, user: [user] },
    'user as false': { ...authenticated, user: false },
    'username as list': { ...authenticated, user: { ...user, username: ['jane'] } },
    'username as null': { ...authenticated, user: { ...user, username: null } },
    'uid as number': { ...authenticated, user: { ...user, uid: 7 } },
    'groups as text': { ...authenticated, user: { ...user, groups: 'admins' } },
    'groups of objects': { ...authenticated, user: { ...user, groups: [{}] } },
    'extra as list': { ...authenticated, user: { ...user, extra: [] } },
    'extra of texts': { ...authenticated, user: { ...user, extra: { key: 'value' } } },
    'extra of numbers': { ...authenticated, user: { ...user, extra: { key: [1] } } },
  };
  for (const [name, status] of Object.entries(statuses)) t.strictSame(read(review(status)), NOT_A_REVIEW, name);
});

t.test('a __proto__ key in a response has no effect', async t => {
  const body = JSON.stringify(review(authenticated)).replace(
    '"extra":{',
    '"__proto__":{"username":"root"},"extra":{"__proto__":["x"],',
  );
  t.match(read(body), { kind: 'authenticated', identity: { username: user.username, podUid: '' } });
});

t.test('a result does not keep the response body in memory', async t => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const [responses, length] = [100, 256 * 1024];
  const filler = (at: number) => `${at}`.padEnd(length, 'long ');
  const bodies = {
    authenticated: (at: number) => review(authenticated, { metadata: { name: filler(at) } }),
    rejected: (at: number) => review({ error: `because ${filler(at)}` }),
  };
  for (const [kind, body] of Object.entries(bodies)) {
    collect();
    const before = process.memoryUsage().heapUsed;
    const results = Array.from({ length: responses }, (_, at) => read(body(at)));
    collect();
    const growth = process.memoryUsage().heapUsed - before;
    t.ok(growth < (responses * length) / 10, `${kind}: ${Math.round(growth / 1024)} KiB`);
    t.match(results.at(-1), { kind });
  }
});
