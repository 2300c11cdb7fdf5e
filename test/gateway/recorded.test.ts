import t, { type Test } from 'tap';
import { converse, type RawAnswer, readAnswers } from '../fixtures/conversation.ts';
import { IDENTITY_NAMES } from '../fixtures/examples.ts';
import { startGate, type TestGate } from '../fixtures/gatecar.ts';
import { isLast, type RecordedRequest, recordings, requestWith } from '../fixtures/recorded.ts';

// What each gateway really sends, byte for byte but for the token. Where the files come from stands in their comments; for
// checks over gRPC see test/invariants/recorded-checks.test.ts.

const GATEWAYS = [
  ...['apisix', 'caddy', 'envoy-gateway', 'envoy-http', 'f5-nginx', 'gateway-api', 'haproxy', 'haproxy-auth-request'],
  ...['ingress-nginx', 'istio', 'nginx', 'nginx-defaults', 'nginx-keepalive', 'traefik'],
];

const recorded = recordings();

t.test('there is a recording of each gateway that asks over HTTP', async t => {
  const names = recorded.map(({ gateway }) => gateway);
  t.strictSame(names, GATEWAYS);
  for (const { gateway, requests } of recorded) {
    t.ok(requests.length >= 3, gateway);
    t.equal(new Set(requests.map(({ title }) => title)).size, requests.length, `${gateway}: each has a title`);
    for (const { lines } of requests) {
      t.equal(lines.filter(line => /^authorization: Bearer \{\{token\}\}$/i.test(line)).length, 1, gateway);
    }
  }
});

t.test('recorded requests', async t => {
  const gate: TestGate = await startGate({ GATECAR_TRUSTED_PROXIES: '127.0.0.1' });
  t.teardown(() => gate.stop());
  const good = gate.token();
  const clients: [token: string | undefined, status: 200 | 401][] = [
    [good, 200],
    [undefined, 401],
    [gate.token({ audiences: ['other'] }), 401],
    [`${good}x`, 401],
    [good, 200],
  ];

  for (const { gateway, requests } of recorded) {
    const last = requests.filter(isLast);
    const others = requests.filter(request => !isLast(request));

    if (others.length > 0) {
      t.test(`${gateway}: good and bad tokens by turns, over one connection that stays`, async t => {
        const connection = await converse(gate.auth);
        t.teardown(() => connection.destroy());
        let asked = 0;
        for (const request of others) {
          for (const [token, status] of clients) {
            connection.send(requestWith(request, token));
            asked += 1;
            const answer = (await connection.answers(asked)).at(-1);
            holds(t, request, answer, status);
            t.not(answer?.headers.get('connection'), 'close');
          }
        }
        t.equal(connection.socket.readyState, 'open');
      });
    }

    if (last.length > 0) {
      t.test(`${gateway}: good and bad tokens by turns, each answered before its connection is closed`, async t => {
        const questions = last.flatMap(request => clients.map(([token, status]) => ({ request, token, status })));
        await Promise.all(
          questions.map(async ({ request, token, status }) => {
            const connection = await converse(gate.auth);
            t.teardown(() => connection.destroy());
            connection.send(requestWith(request, token));
            await connection.closed;
            const answers = readAnswers(withoutBody(request, connection.received()));
            t.equal(answers.length, 1);
            holds(t, request, answers[0], status);
            t.equal(answers[0]?.headers.get('connection'), 'close');
          }),
        );
      });
    }
  }
});

/** A yes with the identity of the token, whatever the client claimed; or a no that says why, to HEAD too. */
function holds(t: Test, { title, lines }: RecordedRequest, answer: RawAnswer | undefined, status: 200 | 401): void {
  t.equal(answer?.status, status, title);
  if (answer === undefined) return;
  const { headers, names, body } = answer;
  const identity = names.map(name => name.toLowerCase()).filter(name => name.startsWith('x-auth-request-'));
  if (status === 200) {
    t.equal(body, '');
    t.equal(headers.get('content-length'), '0');
    t.strictSame(identity.sort(), IDENTITY_NAMES, 'each identity header, once');
    t.equal(headers.get('x-auth-request-user'), 'system:serviceaccount:default:my-app');
  } else {
    t.strictSame(identity, []);
    t.match(headers.get('www-authenticate'), /^Bearer realm="gatecar"/);
    if (!lines[0]?.startsWith('HEAD ')) t.type(JSON.parse(body).error, 'string');
  }
}

/** An answer to HEAD says how long the body would be. */
function withoutBody({ lines }: RecordedRequest, received: string): string {
  return lines[0]?.startsWith('HEAD ') ? received.replace(/(content-length): \d+/i, '$1: 0') : received;
}
