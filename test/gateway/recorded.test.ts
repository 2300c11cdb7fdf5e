import t, { type Test } from 'tap';
import { converse, type RawAnswer, readAnswers } from '../fixtures/conversation.ts';
import { IDENTITY_NAMES } from '../fixtures/examples.ts';
import { startWithFakeApi, type TestGatecarWithFakeApi } from '../fixtures/gatecar.ts';
import { isLast, type RecordedRequest, recordings, requestWith } from '../fixtures/recorded.ts';

// Recorded requests of each gateway, unchanged except for the token. The files' comments name their
// origin. For checks over gRPC see test/invariants/recorded-checks.test.ts.

// biome-ignore format: a list of names
const GATEWAYS = [
  'apisix', 'caddy', 'envoy-gateway', 'envoy-http', 'f5-nginx', 'gateway-api', 'haproxy', 'haproxy-auth-request',
  'ingress-nginx', 'istio', 'nginx', 'nginx-defaults', 'nginx-keepalive', 'traefik',
];

const recorded = recordings();

t.test('every gateway that sends HTTP auth requests has a recording', async t => {
  const names = recorded.map(({ gateway }) => gateway);
  t.strictSame(names, GATEWAYS);
  for (const { gateway, requests } of recorded) {
    t.ok(requests.length >= 3, gateway);
    t.equal(
      new Set(requests.map(({ title }) => title)).size,
      requests.length,
      `${gateway}: every request has a title of its own`,
    );
    for (const { lines } of requests) {
      t.equal(lines.filter(line => /^authorization: Bearer \{\{token\}\}$/i.test(line)).length, 1, gateway);
    }
  }
});

t.test('recorded requests get the response of their token', async t => {
  const gatecar: TestGatecarWithFakeApi = await startWithFakeApi({ GATECAR_TRUSTED_PROXIES: '127.0.0.1' });
  t.teardown(() => gatecar.stop());
  const validToken = gatecar.token();
  const clients: [token: string | undefined, status: 200 | 401][] = [
    [validToken, 200],
    [undefined, 401],
    [gatecar.token({ audiences: ['other'] }), 401],
    [`${validToken}x`, 401],
    [validToken, 200],
  ];

  for (const { gateway, requests } of recorded) {
    const closing = requests.filter(isLast);
    const keptAlive = requests.filter(request => !isLast(request));

    if (keptAlive.length > 0) {
      t.test(`${gateway}: valid and invalid tokens alternate on one kept-alive connection`, async t => {
        const connection = await converse(gatecar.auth);
        t.teardown(() => connection.destroy());
        let sent = 0;
        for (const request of keptAlive) {
          for (const [token, status] of clients) {
            connection.send(requestWith(request, token));
            sent += 1;
            const answer = (await connection.answers(sent)).at(-1);
            checkAnswer(t, request, answer, status);
            t.not(answer?.headers.get('connection'), 'close');
          }
        }
        t.equal(connection.socket.readyState, 'open');
      });
    }

    if (closing.length > 0) {
      t.test(`${gateway}: each request is answered before its connection is closed`, async t => {
        const exchanges = closing.flatMap(request => clients.map(([token, status]) => ({ request, token, status })));
        await Promise.all(
          exchanges.map(async ({ request, token, status }) => {
            const connection = await converse(gatecar.auth);
            t.teardown(() => connection.destroy());
            connection.send(requestWith(request, token));
            await connection.closed;
            const answers = readAnswers(withoutBody(request, connection.received()));
            t.equal(answers.length, 1);
            checkAnswer(t, request, answers[0], status);
            t.equal(answers[0]?.headers.get('connection'), 'close');
          }),
        );
      });
    }
  }
});

/** Asserts an allow with the token's identity only, or a denial with challenge and error body. */
function checkAnswer(
  t: Test,
  { title, lines }: RecordedRequest,
  answer: RawAnswer | undefined,
  status: 200 | 401,
): void {
  t.equal(answer?.status, status, title);
  if (answer === undefined) return;
  const { headers, names, body } = answer;
  const identity = names.map(name => name.toLowerCase()).filter(name => name.startsWith('x-auth-request-'));
  if (status === 200) {
    t.equal(body, '');
    t.equal(headers.get('content-length'), '0');
    t.strictSame(identity.sort(), IDENTITY_NAMES, 'each identity header occurs once');
    t.equal(headers.get('x-auth-request-user'), 'system:serviceaccount:default:my-app');
  } else {
    t.strictSame(identity, []);
    t.match(headers.get('www-authenticate'), /^Bearer realm="gatecar"/);
    if (!lines[0]?.startsWith('HEAD ')) t.type(JSON.parse(body).error, 'string');
  }
}

/** Sets the Content-Length of a response to HEAD to 0: no body follows. */
function withoutBody({ lines }: RecordedRequest, received: string): string {
  return lines[0]?.startsWith('HEAD ') ? received.replace(/(content-length): \d+/i, '$1: 0') : received;
}
