import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startGatecar, type TestGatecar } from '../fixtures/gatecar.ts';
import { CAUSE_TEXTS, everyOutage, outageOfEachCause } from '../fixtures/outages.ts';
import { type Reply, sendRequest } from '../fixtures/send-request.ts';
import { accepts, answers, hangs, reviews, type StandIn, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { until } from '../fixtures/until.ts';

const REJECTS = reviews({ error: 'invalid bearer token' });

/** A hung review ends with this timeout. Any other failure comes first. */
const timeoutFor = (cause: string) => (cause === 'timeout' ? '250ms' : '20s');

async function start(t: Test, settings: Record<string, string> = {}): Promise<[TestGatecar, StandIn]> {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_REVIEW_TIMEOUT: '20s',
    GATECAR_CACHE_TTL: '5m',
    GATECAR_CACHE_NEGATIVE_TTL: '5m',
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  return [gatecar, standIn];
}

function assertUnavailable(
  t: Test,
  reply: Reply,
  expected: { status?: number; text: string; retryAfter?: string },
): void {
  const { status = 503, text, retryAfter = '1' } = expected;
  t.equal(reply.status, status);
  t.equal(reply.headers['retry-after'], retryAfter);
  t.equal(reply.headers['x-gatecar-reason'], 'authority_unavailable');
  t.equal(reply.headers['cache-control'], 'no-store');
  t.same(JSON.parse(reply.body), { error: text });
  t.equal(reply.headers['www-authenticate'], status === 503 ? undefined : 'Bearer realm="gatecar"');
  t.equal(reply.headers['x-auth-request-user'], undefined);
}

/**
 * After a 429, unverified tokens are held back until the API server has answered another review.
 */
const HELD_BACK = 'too_many_requests';

for (const { name, behaviour, cause, retryAfter } of everyOutage) {
  t.test(`${name}: unavailable, not cached, and a cached token still passes`, async t => {
    const [gatecar, standIn] = await start(t, { GATECAR_REVIEW_TIMEOUT: timeoutFor(cause) });
    const reviewsOf = (token: string) => standIn.requests.filter(request => request.token === token).length;
    t.equal((await sendRequest(gatecar.auth, { token: 'cached' })).status, 200);

    standIn.behaviour = behaviour;
    const text = `TokenReview API call failed: ${CAUSE_TEXTS[cause]}`;
    assertUnavailable(t, await sendRequest(gatecar.auth, { token: 'good' }), {
      text,
      ...(retryAfter && { retryAfter }),
    });
    assertUnavailable(t, await sendRequest(gatecar.auth, { token: 'bad' }), {
      text,
      ...(retryAfter && { retryAfter }),
    });
    t.ok(reviewsOf('good') >= 1, 'a review was sent');
    t.equal((await sendRequest(gatecar.auth, { token: 'cached' })).status, 200);
    t.equal(reviewsOf('cached'), 1, 'the cached result was used');

    const before = reviewsOf('good');
    standIn.behaviour = accepts();
    if (cause === HELD_BACK)
      await until(async () => (await sendRequest(gatecar.auth, { token: 'good' })).status === 200);
    else t.equal((await sendRequest(gatecar.auth, { token: 'good' })).status, 200, 'reviewed again without a wait');
    t.equal(reviewsOf('good'), before + 1);
    standIn.behaviour = REJECTS;
    const rejected = await sendRequest(gatecar.auth, { token: 'bad' });
    t.equal(rejected.status, 401);
    t.equal(rejected.headers['x-gatecar-reason'], 'token_rejected');
  });
}

for (const status of [401, 403]) {
  t.test(
    `with outage status ${status} an outage keeps its own reason, has no error code and is not cached`,
    async t => {
      for (const { name, behaviour, cause, retryAfter } of outageOfEachCause) {
        await t.test(name, async t => {
          const [gatecar, standIn] = await start(t, {
            GATECAR_UNAVAILABLE_STATUS: String(status),
            GATECAR_REVIEW_TIMEOUT: timeoutFor(cause),
          });
          standIn.behaviour = behaviour;
          const text = `TokenReview API call failed: ${CAUSE_TEXTS[cause]}`;
          assertUnavailable(t, await sendRequest(gatecar.auth, { token: 'good' }), {
            status,
            text,
            ...(retryAfter && { retryAfter }),
          });
          standIn.behaviour = accepts();
          if (cause === HELD_BACK)
            await until(async () => (await sendRequest(gatecar.auth, { token: 'good' })).status === 200);
          else t.equal((await sendRequest(gatecar.auth, { token: 'good' })).status, 200);
        });
      }
    },
  );
}

t.test('an API server that stops is unavailable until it is back, and a cached token still passes', async t => {
  const standIn = await startStandIn(accepts());
  const { port } = new URL(standIn.url);
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, GATECAR_CACHE_TTL: '5m' });
  t.teardown(() => gatecar.stop());
  t.equal((await sendRequest(gatecar.auth, { token: 'cached' })).status, 200);

  await standIn.close();
  const text = 'TokenReview API call failed: connection refused';
  assertUnavailable(t, await sendRequest(gatecar.auth, { token: 'good' }), { text });
  t.equal((await sendRequest(gatecar.auth, { token: 'cached' })).status, 200);

  const back = await startStandIn(accepts(), Number(port));
  t.teardown(() => back.close());
  t.equal((await sendRequest(gatecar.auth, { token: 'good' })).status, 200);
  back.behaviour = REJECTS;
  t.equal((await sendRequest(gatecar.auth, { token: 'bad' })).headers['x-gatecar-reason'], 'token_rejected');
});

t.test('an API server without TLS behind an https URL is unavailable', async t => {
  const [, standIn] = await start(t);
  const [gatecar] = await start(t, { GATECAR_KUBE_API_URL: standIn.url.replace('http:', 'https:') });
  assertUnavailable(t, await sendRequest(gatecar.auth, { token: 'good' }), {
    text: 'TokenReview API call failed: tls',
  });
});

t.test('without a credential of gatecar no review is sent, and once it exists reviews succeed', async t => {
  const file = join(t.testdir({}), 'token');
  const [gatecar, standIn] = await start(t, { GATECAR_KUBE_TOKEN_FILE: file });
  assertUnavailable(t, await sendRequest(gatecar.auth, { token: 'good' }), {
    text: 'Failed to create Kubernetes client',
  });
  t.equal(standIn.requests.length, 0);
  await writeFile(file, 'our-own');
  t.equal((await sendRequest(gatecar.auth, { token: 'good' })).status, 200);
  t.equal(standIn.requests[0]?.headers.authorization, 'Bearer our-own');
});

t.test('a cached allow expires after its TTL, and then the outage shows', async t => {
  const [gatecar, standIn] = await start(t, { GATECAR_CACHE_TTL: '400ms' });
  t.equal((await sendRequest(gatecar.auth, { token: 'cached' })).status, 200);
  standIn.behaviour = answers(500, 'boom');
  let reply = await sendRequest(gatecar.auth, { token: 'cached' });
  while (reply.status === 200) reply = await sendRequest(gatecar.auth, { token: 'cached' });
  assertUnavailable(t, reply, { text: 'TokenReview API call failed: server error' });
  standIn.behaviour = accepts();
  t.equal((await sendRequest(gatecar.auth, { token: 'cached' })).status, 200);
});

t.test('all requests that wait for a hung review report the outage, and later requests do not', async t => {
  const [gatecar, standIn] = await start(t, { GATECAR_REVIEW_TIMEOUT: '250ms' });
  standIn.behaviour = hangs;
  const waiting = Array.from({ length: 20 }, () => sendRequest(gatecar.auth, { token: 'good' }));
  for (const reply of await Promise.all(waiting)) {
    assertUnavailable(t, reply, { text: 'TokenReview API call failed: timeout' });
  }
  standIn.behaviour = accepts();
  t.equal((await sendRequest(gatecar.auth, { token: 'good' })).status, 200);
});

t.test('a late allow of an abandoned review is not cached', async t => {
  const [gatecar, standIn] = await start(t, { GATECAR_REVIEW_TIMEOUT: '100ms' });
  const { promise: abandoned, resolve: abandon } = Promise.withResolvers<void>();
  standIn.behaviour = (request, response) => void abandoned.then(() => accepts()(request, response));
  assertUnavailable(t, await sendRequest(gatecar.auth, { token: 'late' }), {
    text: 'TokenReview API call failed: timeout',
  });
  abandon();
  standIn.behaviour = REJECTS;
  t.equal((await sendRequest(gatecar.auth, { token: 'late' })).headers['x-gatecar-reason'], 'token_rejected');
});
