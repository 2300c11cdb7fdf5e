import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { startGatecar } from '../fixtures/gatecar.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { metric, reaches } from '../fixtures/metrics.ts';
import { sendPipelined } from '../fixtures/send-pipelined.ts';
import { type Reply, sendRequest } from '../fixtures/send-request.ts';
import {
  accepts,
  answers,
  type Behaviour,
  heldBack,
  reviews,
  type StandIn,
  startStandIn,
} from '../fixtures/stand-in-api-server.ts';

/** The number of new tokens from each of four callers. */
const NEW_TOKENS = LONG_FUZZ ? 2_500 : 250;
const REJECTS = reviews({ error: 'invalid bearer token' });

/** Authenticates every token as a user named after it. */
const userNamedAfterToken: Behaviour = (request, response) =>
  accepts({ user: { username: `user-of-${request.token}` } })(request, response);

async function start(t: Test, behaviour: Behaviour, settings: Record<string, string> = {}) {
  const standIn = await startStandIn(behaviour);
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_REVIEW_TIMEOUT: '30s',
    GATECAR_CACHE_TTL: '5m',
    GATECAR_CACHE_NEGATIVE_TTL: '5m',
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  return { standIn, gatecar };
}

/** Returns the number of reviews per token. */
function reviewsPerToken({ requests }: StandIn): Map<string | undefined, number> {
  const found = new Map<string | undefined, number>();
  for (const { token } of requests) found.set(token, (found.get(token) ?? 0) + 1);
  return found;
}

function statuses(replies: readonly Reply[]): number[] {
  return [...new Set(replies.map(reply => reply.status))];
}

for (const [kind, behaviour, status] of [
  ['authenticated', accepts(), 200],
  ['rejected', REJECTS, 401],
] as const) {
  t.test(`1,000 requests with one ${kind} token cost one review`, async t => {
    const { standIn, gatecar } = await start(t, behaviour);
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    t.teardown(() => agent.destroy());
    const send = () => sendRequest(gatecar.auth, { token: 'the-token', agent });
    const replies = [await send(), ...(await Promise.all(Array.from({ length: 999 }, send)))];
    t.same(statuses(replies), [status]);
    t.same([...reviewsPerToken(standIn)], [['the-token', 1]]);
  });

  t.test(`256 first requests at once with one ${kind} token cost one review`, async t => {
    const delayed = heldBack(behaviour);
    const { standIn, gatecar } = await start(t, delayed.behaviour);
    const pending = Array.from({ length: 256 }, () => sendRequest(gatecar.auth, { token: 'the-token' }));
    await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 255);
    delayed.letGo();
    t.same(statuses(await Promise.all(pending)), [status]);
    t.same([...reviewsPerToken(standIn)], [['the-token', 1]]);
  });
}

t.test('each new token costs one review, over at most the configured number of connections', async t => {
  const { standIn, gatecar } = await start(t, accepts(), {
    GATECAR_REVIEW_MAX_CONCURRENCY: '8',
    // JWKS documents use a connection of their own.
    GATECAR_JWT_PRECHECK: 'off',
  });
  const callers = Array.from({ length: 4 }, (_, caller) =>
    sendPipelined(
      gatecar.auth,
      Array.from({ length: NEW_TOKENS }, (_, number) => `Bearer token.${caller}.${number}`),
    ),
  );
  for (const statusCounts of await Promise.all(callers)) t.same(statusCounts, { 200: NEW_TOKENS });
  t.equal(standIn.requests.length, 4 * NEW_TOKENS);
  t.equal(reviewsPerToken(standIn).size, 4 * NEW_TOKENS);
  t.ok(standIn.connections <= 8, `${standIn.connections} connections`);
});

t.test('requests that share an outage share one review, and the next request starts another', async t => {
  const delayed = heldBack(answers(500, 'boom'));
  const { standIn, gatecar } = await start(t, delayed.behaviour);
  const pending = Array.from({ length: 64 }, () => sendRequest(gatecar.auth, { token: 'the-token' }));
  await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 63);
  delayed.letGo();
  t.same(statuses(await Promise.all(pending)), [503]);
  t.equal(standIn.requests.length, 1);
  standIn.behaviour = accepts();
  t.equal((await sendRequest(gatecar.auth, { token: 'the-token' })).status, 200);
  t.equal(standIn.requests.length, 2);
});

t.test('tokens that are similar but not equal never share a review or a result', async t => {
  const { standIn, gatecar } = await start(t, userNamedAfterToken);
  const tokens = ['a', 'A', 'aa', 'a=', 'a==', 'a.', '.a', 'a/b', 'a-b', 'a_b', 'a~b', 'a+b', 'b', 'bindcar'];
  for (let i = 0; i < 100; i += 1) tokens.push(`token-${i}`);
  const pairs = await Promise.all(
    [...tokens, ...tokens, ...tokens].map(async token => [token, await sendRequest(gatecar.auth, { token })] as const),
  );
  for (const [token, reply] of pairs) {
    if (reply.headers['x-auth-request-user'] !== `user-of-${token}`) t.fail(`${token} got the result of another token`);
  }
  t.same([...reviewsPerToken(standIn)].sort(), tokens.map(token => [token, 1]).sort());
});

t.test('a result for one audience is not used for another', async t => {
  const standIn = await startStandIn((request, response) => {
    const { audiences } = JSON.parse(request.body).spec;
    const behaviour = audiences.includes('one') ? accepts({ audiences }) : REJECTS;
    behaviour(request, response);
  });
  t.teardown(() => standIn.close());
  const statusFor = async (audiences: string): Promise<number> => {
    const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, GATECAR_TOKEN_AUDIENCES: audiences });
    t.teardown(() => gatecar.stop());
    return (await sendRequest(gatecar.auth, { token: 'the-token' })).status;
  };
  t.same(await Promise.all(['one', 'other', 'one,other'].map(statusFor)), [200, 401, 200]);
  t.same([...reviewsPerToken(standIn)], [['the-token', 3]]);
});

t.test('a review beyond concurrency and queue is rejected at once, and all queued reviews are sent', async t => {
  const delayed = heldBack(userNamedAfterToken);
  const { standIn, gatecar } = await start(t, delayed.behaviour, {
    GATECAR_REVIEW_MAX_CONCURRENCY: '2',
    GATECAR_REVIEW_MAX_QUEUE: '3',
  });
  await reaches(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}', 0);
  const first = ['t1', 't2', 't3', 't4', 't5'].map(token => sendRequest(gatecar.auth, { token }));
  await reaches(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}', 3);
  t.equal(await metric(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}'), 2);

  const sixth = await sendRequest(gatecar.auth, { token: 't6' });
  t.equal(sixth.status, 503);
  t.equal(sixth.headers['x-gatecar-reason'], 'overloaded');
  t.equal(sixth.headers['retry-after'], '1');
  t.same(JSON.parse(sixth.body), { error: 'Too many token reviews in progress' });
  t.equal(standIn.requests.length, 2, 'no review waited');

  const shared = sendRequest(gatecar.auth, { token: 't5' });
  await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 1);
  delayed.letGo();
  const replies = await Promise.all([...first, shared]);
  t.same(
    replies.map(reply => reply.headers['x-auth-request-user']),
    ['t1', 't2', 't3', 't4', 't5', 't5'].map(token => `user-of-${token}`),
  );
  t.equal(delayed.mostAtOnce, 2);
  t.equal(await metric(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}'), 0);
  t.equal(await metric(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}'), 0);
  t.equal((await sendRequest(gatecar.auth, { token: 't6' })).status, 200, 'afterwards a new token is reviewed');
  t.same([...reviewsPerToken(standIn).values()], [1, 1, 1, 1, 1, 1]);
});

t.test(
  'a request that waits in the queue past the review timeout is answered `overloaded` and leaves the queue',
  async t => {
    const delayed = heldBack(accepts());
    const { standIn, gatecar } = await start(t, delayed.behaviour, {
      GATECAR_REVIEW_MAX_CONCURRENCY: '1',
      GATECAR_REVIEW_TIMEOUT: '250ms',
    });
    const replies = await Promise.all(['t1', 't2', 't3'].map(token => sendRequest(gatecar.auth, { token })));
    t.same(statuses(replies), [503]);
    t.same(
      replies.map(({ body }) => JSON.parse(body).error).sort(),
      ['TokenReview API call failed: timeout', ...Array(2).fill('Too many token reviews in progress')],
      'requests that were never sent to the API server do not report a failure of it',
    );
    t.equal(await metric(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}'), 0);
    standIn.behaviour = accepts();
    t.equal((await sendRequest(gatecar.auth, { token: 't2' })).status, 200);
  },
);

t.test('with a TTL of 0 concurrent requests share a review, and later requests do not', async t => {
  const { standIn, gatecar } = await start(t, accepts(), { GATECAR_CACHE_TTL: '0', GATECAR_CACHE_NEGATIVE_TTL: '0' });
  for (const [round, behaviour] of [accepts(), REJECTS, accepts()].entries()) {
    const delayed = heldBack(behaviour);
    standIn.behaviour = delayed.behaviour;
    const pending = Array.from({ length: 32 }, () => sendRequest(gatecar.auth, { token: 'the-token' }));
    await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 31 * (round + 1));
    delayed.letGo();
    t.same(statuses(await Promise.all(pending)), [behaviour === REJECTS ? 401 : 200]);
    t.equal(standIn.requests.length, round + 1);
  }
});
