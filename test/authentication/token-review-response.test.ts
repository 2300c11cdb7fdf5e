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
const yes = { authenticated: true, user, audiences: ['bindcar'] };

function review(status: unknown, more: Record<string, unknown> = {}): unknown {
  const spec = { token: SECRET, audiences: ['bindcar'] };
  return { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: {}, spec, status, ...more };
}

function read(
  body: unknown,
  { status = 201, asked = ['bindcar'], retryAfterSeconds = undefined as number | undefined } = {},
) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return parseTokenReviewResponse({ status, body: text, retryAfterSeconds }, token, asked);
}

t.test('a yes names whose the token is and the audiences it was accepted for', async t => {
  for (const status of [200, 201]) {
    t.match(read(review(yes), { status }), {
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

t.test('a user of whom only the name is known is a user', async t => {
  for (const rest of [{}, { groups: null }, { extra: null }, { groups: [], extra: {}, uid: '' }]) {
    const answer = read(review({ ...yes, user: { username: 'jane', ...rest } }));
    t.match(answer, {
      kind: 'authenticated',
      identity: { username: 'jane', uid: '', groups: [], serviceAccount: undefined },
    });
  }
});

t.test('of the audiences confirmed only those that were asked for count', async t => {
  const answer = read(review({ ...yes, audiences: ['other', 'second', 'first'] }), {
    asked: ['first', 'second', 'third'],
  });
  t.match(answer, { kind: 'authenticated', identity: { audiences: ['first', 'second'] } });
});

t.test('a yes that confirms none of the audiences asked for is a refusal', async t => {
  for (const audiences of [undefined, [], ['https://kubernetes.default.svc'], ['bindca'], ['BINDCAR']]) {
    t.strictSame(read(review({ ...yes, audiences })), rejected('audience_mismatch', ''));
  }
});

t.test('where no audience was asked for, those of the answer are taken', async t => {
  const audiences = ['https://kubernetes.default.svc'];
  t.match(read(review({ ...yes, audiences }), { asked: [] }), { kind: 'authenticated', identity: { audiences } });
  t.match(read(review({ ...yes, audiences: undefined }), { asked: [] }), {
    kind: 'authenticated',
    identity: { audiences: [] },
  });
});

t.test('a yes without a user, or with a user without a name, is a refusal', async t => {
  for (const nobody of [undefined, null, {}, { username: '' }, { uid: 'x', groups: ['g'] }]) {
    t.strictSame(read(review({ ...yes, user: nobody })), rejected('user_missing', ''));
  }
});

t.test('the anonymous user never passes, by name or by group', async t => {
  for (const anonymous of [
    { username: 'system:anonymous' },
    { username: 'system:anonymous', groups: ['system:authenticated'] },
    { username: 'jane', groups: ['system:authenticated', 'system:unauthenticated'] },
  ]) {
    t.strictSame(read(review({ ...yes, user: anonymous })), rejected('token_rejected', INVALID_BEARER_TOKEN));
    t.strictSame(read(review({ ...yes, user: anonymous }), { asked: [] }).kind, 'rejected');
  }
});

t.test('a no gives the API server’s own text, or says that there is none', async t => {
  const text = '[invalid bearer token, service account token has expired]';
  t.strictSame(read(review({ error: text })), rejected('token_rejected', text));
  t.strictSame(read(review({ authenticated: false, error: text, user: {} })), rejected('token_rejected', text));
  for (const status of [{}, { authenticated: false }, { error: '' }, { error: ' \n ' }]) {
    t.strictSame(read(review(status)), rejected('token_rejected', 'Token not authenticated'));
  }
});

t.test('a no is a no, whatever user and audiences come with it', async t => {
  t.strictSame(read(review({ ...yes, authenticated: false })), rejected('token_rejected', 'Token not authenticated'));
  t.equal(read(review({ user: 7, audiences: ['bindcar'] })).kind, 'rejected');
});

t.test('the text of a no is one bounded line of printable ASCII', async t => {
  const answer = read(review({ error: ` first line\r\nsecond “line”\0${'x'.repeat(2000)}` }));
  const { detail } = answer as Rejected;
  t.match(detail, /^[\x20-\x7e]+$/);
  t.equal(detail.length, 512);
  t.ok(decodeURIComponent(detail).startsWith('first line\r\nsecond “line”\0xxx'));
});

t.test('the text of a no repeats no token, neither the one reviewed nor any other', async t => {
  const ours = revealToken(unsignedJwt({ sub: 'system:serviceaccount:gatecar:gatecar' }));
  const answer = read(review({ error: `no such token: ${SECRET} (${SECRET}), asked with ${ours}` }));
  t.match(answer, { kind: 'rejected', detail: 'no such token: [token] ([token]), asked with [token]' });
});

t.test('the text of a no repeats no encoded token either', async t => {
  const percent = [...SECRET].map(character => `%${character.charCodeAt(0).toString(16)}`).join('');
  for (const copy of [percent, btoa(SECRET), btoa(`a:${SECRET}`), SECRET.slice(-40), SECRET.slice(0, 40)]) {
    const { detail } = read(review({ error: `no such token: ${copy}` })) as Rejected;
    t.match(detail, /^(no such token: )?\[token\]$/, copy);
  }
});

t.test('a user who is named by the encoded token is no answer either', async t => {
  for (const username of [btoa(`a:${SECRET}`), encodeURIComponent(SECRET).replaceAll('.', '%2E')]) {
    t.strictSame(read(review({ ...yes, user: { ...user, username } })), unavailable('invalid_response'));
  }
});

t.test(
  'a user who is named by the token itself is no answer, since headers and logs would carry the token on',
  async t => {
    const named = [
      { ...user, username: SECRET },
      { ...user, uid: `uid of ${SECRET}` },
      { ...user, groups: ['group', SECRET] },
      { ...user, extra: { 'authentication.kubernetes.io/node-name': [SECRET] } },
    ];
    for (const one of named) {
      const answer = read(review({ ...yes, user: one }));
      t.strictSame(answer, unavailable('invalid_response'));
    }
  },
);

t.test('a token as short as a word is not cut out of the words of the API server', async t => {
  const body = JSON.stringify(review({ error: 'invalid bearer token' }));
  const answer = parseTokenReviewResponse({ status: 201, body, retryAfterSeconds: undefined }, new Token('token'), [
    'bindcar',
  ]);
  t.match(answer, { kind: 'rejected', detail: 'invalid bearer token' });
});

t.test('a token as short as a word may stand in a name', async t => {
  const answer = { status: 201, body: JSON.stringify(review({ ...yes, user: { username: 'jane-doe' } })) };
  const short = new Token('jane');
  t.equal(
    parseTokenReviewResponse({ ...answer, retryAfterSeconds: undefined }, short, ['bindcar']).kind,
    'authenticated',
  );
  const secret = new Token('x'.repeat(16));
  const body = JSON.stringify(review({ ...yes, user: { username: 'x'.repeat(16) } }));
  t.equal(
    parseTokenReviewResponse({ status: 201, body, retryAfterSeconds: undefined }, secret, ['bindcar']).kind,
    'unavailable',
  );
});

t.test('our own faults and the API server’s are outages, each by its class', async t => {
  const classes = {
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
  for (const [status, cause] of Object.entries(classes)) {
    t.strictSame(read(review(yes), { status: Number(status) }), unavailable(cause), `${status} with a yes in it`);
  }
});

t.test('an outage says when to come back: what the API server asked for, within a minute', async t => {
  for (const status of [401, 403, 429, 500, 404]) {
    for (const [asked, told] of [
      [7, 7],
      [0, 0],
      [60, 60],
      [3600, 60],
      [undefined, 1],
    ] as const) {
      t.match(read('', { status, retryAfterSeconds: asked }), { retryAfterSeconds: told });
    }
  }
});

t.test('what is no TokenReview of version 1 is an outage, never a result', async t => {
  const bodies: Record<string, unknown> = {
    'an empty body': '',
    HTML: '<html><body>Welcome</body></html>',
    'cut JSON': JSON.stringify(review(yes)).slice(0, -1),
    'a JSON text': '"yes"',
    null: 'null',
    'a list': [review(yes)],
    'an empty object': {},
    'another kind': review(yes, { kind: 'SubjectAccessReview' }),
    'a Status': { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 500 },
    'another version': review(yes, { apiVersion: 'authentication.k8s.io/v1beta1' }),
    'no version': review(yes, { apiVersion: undefined }),
    'no status': review(undefined),
    'a null status': review(null),
    'a status that is a list': review([yes]),
    'a status that is a text': review('authenticated'),
  };
  for (const [name, body] of Object.entries(bodies)) t.strictSame(read(body), NOT_A_REVIEW, name);
});

t.test('a status of wrong types is an outage, never a result', async t => {
  const statuses: Record<string, unknown> = {
    'authenticated as text': { ...yes, authenticated: 'true' },
    'authenticated as number': { ...yes, authenticated: 1 },
    'authenticated as null': { ...yes, authenticated: null },
    'error as object': { error: { message: 'no' } },
    'audiences as text': { ...yes, audiences: 'bindcar' },
    'audiences of numbers': { ...yes, audiences: ['bindcar', 7] },
    'user as text': { ...yes, user: 'jane' },
    'user as list': { ...yes, user: [user] },
    'user as false': { ...yes, user: false },
    'username as list': { ...yes, user: { ...user, username: ['jane'] } },
    'username as null': { ...yes, user: { ...user, username: null } },
    'uid as number': { ...yes, user: { ...user, uid: 7 } },
    'groups as text': { ...yes, user: { ...user, groups: 'admins' } },
    'groups of objects': { ...yes, user: { ...user, groups: [{}] } },
    'extra as list': { ...yes, user: { ...user, extra: [] } },
    'extra of texts': { ...yes, user: { ...user, extra: { key: 'value' } } },
    'extra of numbers': { ...yes, user: { ...user, extra: { key: [1] } } },
  };
  for (const [name, status] of Object.entries(statuses)) t.strictSame(read(review(status)), NOT_A_REVIEW, name);
});

t.test('names of JavaScript’s own mean nothing in an answer', async t => {
  const body = JSON.stringify(review(yes)).replace(
    '"extra":{',
    '"__proto__":{"username":"root"},"extra":{"__proto__":["x"],',
  );
  t.match(read(body), { kind: 'authenticated', identity: { username: user.username, podUid: '' } });
});

t.test('a result holds on to nothing of the answer but what it says', async t => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const [answers, length] = [100, 256 * 1024];
  const filler = (at: number) => `${at}`.padEnd(length, 'long ');
  const bodies = {
    authenticated: (at: number) => review(yes, { metadata: { name: filler(at) } }),
    rejected: (at: number) => review({ error: `because ${filler(at)}` }),
  };
  for (const [kind, body] of Object.entries(bodies)) {
    collect();
    const before = process.memoryUsage().heapUsed;
    const kept = Array.from({ length: answers }, (_, at) => read(body(at)));
    collect();
    const held = process.memoryUsage().heapUsed - before;
    t.ok(held < (answers * length) / 10, `${kind}: ${Math.round(held / 1024)} KiB`);
    t.match(kept.at(-1), { kind });
  }
});
