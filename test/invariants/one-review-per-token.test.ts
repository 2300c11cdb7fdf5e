import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { ask, type Reply } from '../fixtures/ask.ts';
import { startGatecar } from '../fixtures/gatecar.ts';
import { metric, reaches } from '../fixtures/metrics.ts';
import { askPipelined } from '../fixtures/pipelined.ts';
import {
  accepts,
  answers,
  type Behaviour,
  heldBack,
  reviews,
  type StandIn,
  startStandIn,
} from '../fixtures/stand-in-api-server.ts';

const REFUSES = reviews({ error: 'invalid bearer token' });

/** Says yes, and that the user is the token's namesake. */
const namesake: Behaviour = (request, response) =>
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

/** How many reviews each token took. */
function counts({ requests }: StandIn): Map<string | undefined, number> {
  const found = new Map<string | undefined, number>();
  for (const { token } of requests) found.set(token, (found.get(token) ?? 0) + 1);
  return found;
}

function statuses(replies: readonly Reply[]): number[] {
  return [...new Set(replies.map(reply => reply.status))];
}

for (const [kind, behaviour, status] of [
  ['authenticated', accepts(), 200],
  ['rejected', REFUSES, 401],
] as const) {
  t.test(`1,000 requests with one ${kind} token are one review`, async t => {
    const { standIn, gatecar } = await start(t, behaviour);
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    t.teardown(() => agent.destroy());
    const one = () => ask(gatecar.auth, { token: 'the-token', agent });
    const replies = [await one(), ...(await Promise.all(Array.from({ length: 999 }, one)))];
    t.same(statuses(replies), [status]);
    t.same([...counts(standIn)], [['the-token', 1]]);
  });

  t.test(`256 first requests at once with one ${kind} token are one review`, async t => {
    const held = heldBack(behaviour);
    const { standIn, gatecar } = await start(t, held.behaviour);
    const asking = Array.from({ length: 256 }, () => ask(gatecar.auth, { token: 'the-token' }));
    await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 255);
    held.letGo();
    t.same(statuses(await Promise.all(asking)), [status]);
    t.same([...counts(standIn)], [['the-token', 1]]);
  });
}

t.test('1,000 new tokens are 1,000 reviews, over no more connections than may be', async t => {
  const { standIn, gatecar } = await start(t, accepts(), {
    GATECAR_REVIEW_MAX_CONCURRENCY: '8',
    // The cluster's documents have a connection of their own.
    GATECAR_JWT_PRECHECK: 'off',
  });
  const callers = Array.from({ length: 4 }, (_, caller) =>
    askPipelined(
      gatecar.auth,
      Array.from({ length: 250 }, (_, number) => `Bearer token.${caller}.${number}`),
    ),
  );
  for (const counts of await Promise.all(callers)) t.same(counts, { 200: 250 });
  t.equal(standIn.requests.length, 1000);
  t.equal(counts(standIn).size, 1000);
  t.ok(standIn.connections <= 8, `${standIn.connections} connections`);
});

t.test('an outage that all wait for is one review, and the next question another', async t => {
  const held = heldBack(answers(500, 'boom'));
  const { standIn, gatecar } = await start(t, held.behaviour);
  const asking = Array.from({ length: 64 }, () => ask(gatecar.auth, { token: 'the-token' }));
  await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 63);
  held.letGo();
  t.same(statuses(await Promise.all(asking)), [503]);
  t.equal(standIn.requests.length, 1);
  standIn.behaviour = accepts();
  t.equal((await ask(gatecar.auth, { token: 'the-token' })).status, 200);
  t.equal(standIn.requests.length, 2);
});

t.test('tokens that are alike but not the same never share a review or an answer', async t => {
  const { standIn, gatecar } = await start(t, namesake);
  const tokens = ['a', 'A', 'aa', 'a=', 'a==', 'a.', '.a', 'a/b', 'a-b', 'a_b', 'a~b', 'a+b', 'b', 'bindcar'];
  for (let i = 0; i < 100; i += 1) tokens.push(`token-${i}`);
  const pairs = await Promise.all(
    [...tokens, ...tokens, ...tokens].map(async token => [token, await ask(gatecar.auth, { token })] as const),
  );
  for (const [token, reply] of pairs) {
    if (reply.headers['x-auth-request-user'] !== `user-of-${token}`) t.fail(`${token} got another's answer`);
  }
  t.same([...counts(standIn)].sort(), tokens.map(token => [token, 1]).sort());
});

t.test('what one audience was told is not told to another', async t => {
  const standIn = await startStandIn((request, response) => {
    const { audiences } = JSON.parse(request.body).spec;
    const behaviour = audiences.includes('one') ? accepts({ audiences }) : REFUSES;
    behaviour(request, response);
  });
  t.teardown(() => standIn.close());
  const answersFor = async (audiences: string): Promise<number> => {
    const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, GATECAR_TOKEN_AUDIENCES: audiences });
    t.teardown(() => gatecar.stop());
    return (await ask(gatecar.auth, { token: 'the-token' })).status;
  };
  t.same(await Promise.all(['one', 'other', 'one,other'].map(answersFor)), [200, 401, 200]);
  t.same([...counts(standIn)], [['the-token', 3]]);
});

t.test(
  'past concurrency and queue a review is refused at once, and those in the queue all have their turn',
  async t => {
    const held = heldBack(namesake);
    const { standIn, gatecar } = await start(t, held.behaviour, {
      GATECAR_REVIEW_MAX_CONCURRENCY: '2',
      GATECAR_REVIEW_MAX_QUEUE: '3',
    });
    await reaches(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}', 0);
    const first = ['t1', 't2', 't3', 't4', 't5'].map(token => ask(gatecar.auth, { token }));
    await reaches(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}', 3);
    t.equal(await metric(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}'), 2);

    const sixth = await ask(gatecar.auth, { token: 't6' });
    t.equal(sixth.status, 503);
    t.equal(sixth.headers['x-gatecar-reason'], 'overloaded');
    t.equal(sixth.headers['retry-after'], '1');
    t.same(JSON.parse(sixth.body), { error: 'Too many token reviews in progress' });
    t.equal(standIn.requests.length, 2, 'nobody waited for anybody');

    const shared = ask(gatecar.auth, { token: 't5' });
    await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 1);
    held.letGo();
    const replies = await Promise.all([...first, shared]);
    t.same(
      replies.map(reply => reply.headers['x-auth-request-user']),
      ['t1', 't2', 't3', 't4', 't5', 't5'].map(token => `user-of-${token}`),
    );
    t.equal(held.mostAtOnce, 2);
    t.equal(await metric(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}'), 0);
    t.equal(await metric(gatecar.ops, 'gatecar_reviews_in_flight{priority="unverified"}'), 0);
    t.equal((await ask(gatecar.auth, { token: 't6' })).status, 200, 'overload is forgotten');
    t.same([...counts(standIn).values()], [1, 1, 1, 1, 1, 1]);
  },
);

t.test('who waits in the queue past the review timeout is told so, and leaves it', async t => {
  const held = heldBack(accepts());
  const { standIn, gatecar } = await start(t, held.behaviour, {
    GATECAR_REVIEW_MAX_CONCURRENCY: '1',
    GATECAR_REVIEW_TIMEOUT: '250ms',
  });
  const replies = await Promise.all(['t1', 't2', 't3'].map(token => ask(gatecar.auth, { token })));
  t.same(statuses(replies), [503]);
  t.same(
    replies.map(({ body }) => JSON.parse(body).error).sort(),
    ['TokenReview API call failed: timeout', ...Array(2).fill('Too many token reviews in progress')],
    'who never had a turn is not told of a fault of the API server',
  );
  t.equal(await metric(gatecar.ops, 'gatecar_reviews_queued{priority="unverified"}'), 0);
  standIn.behaviour = accepts();
  t.equal((await ask(gatecar.auth, { token: 't2' })).status, 200);
});

t.test('with a TTL of 0 those who ask at once share a review, and nobody after them', async t => {
  const { standIn, gatecar } = await start(t, accepts(), { GATECAR_CACHE_TTL: '0', GATECAR_CACHE_NEGATIVE_TTL: '0' });
  for (const [round, behaviour] of [accepts(), REFUSES, accepts()].entries()) {
    const held = heldBack(behaviour);
    standIn.behaviour = held.behaviour;
    const asking = Array.from({ length: 32 }, () => ask(gatecar.auth, { token: 'the-token' }));
    await reaches(gatecar.ops, 'gatecar_cache_lookups_total{result="coalesced"}', 31 * (round + 1));
    held.letGo();
    t.same(statuses(await Promise.all(asking)), [behaviour === REFUSES ? 401 : 200]);
    t.equal(standIn.requests.length, round + 1);
  }
});
