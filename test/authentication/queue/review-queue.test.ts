import { getEventListeners } from 'node:events';
import t from 'tap';
import {
  type ReviewQueue,
  type ReviewQueueOptions,
  withReviewQueue,
} from '../../../src/authentication/queue/review-queue.ts';
import { type AuthResult, unavailable } from '../../../src/authentication/token-authenticator.ts';
import { Token } from '../../../src/credential/token.ts';
import { authenticatedAs } from '../../fixtures/authenticated-result.ts';
import { fakeClock } from '../../fixtures/clock.ts';
import { stubAuthenticator } from '../../fixtures/stub-authenticator.ts';

const token = new Token('a-token');
const authenticated = authenticatedAs();
const OVERLOADED = { kind: 'unavailable', reason: 'overloaded', cause: 'too_many_reviews', retryAfterSeconds: 1 };

function startQueue(options: Partial<ReviewQueueOptions> & { maxConcurrency: number }) {
  const inner = stubAuthenticator();
  return {
    inner,
    queue: withReviewQueue(inner, { maxQueue: 100, maxWaitMs: 60_000, unverifiedShare: () => 1, ...options }),
  };
}

/** Returns how many unverified reviews are in flight and how many wait. */
const busy = (queue: ReviewQueue) => [queue.inFlight('unverified'), queue.queued('unverified')];

/** Waits until all pending promise callbacks have run. */
const settle = () => new Promise(resolve => setImmediate(resolve));

t.test('at most maxConcurrency reviews run at once, and the rest wait in the queue', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 2 });
  const reviews = [1, 2, 3, 4, 5].map(() => queue.authenticate(token));
  t.equal(inner.reviews.length, 2);
  t.strictSame(busy(queue), [2, 3]);

  inner.reviews[0]?.answer(authenticated);
  await reviews[0];
  await settle();
  t.equal(inner.reviews.length, 3);
  t.strictSame(busy(queue), [2, 2]);

  while (inner.reviews.length < 5) {
    for (const review of inner.reviews) review.answer(authenticated);
    await settle();
  }
  for (const review of inner.reviews) review.answer(authenticated);
  t.strictSame(await Promise.all(reviews), [authenticated, authenticated, authenticated, authenticated, authenticated]);
  t.strictSame(busy(queue), [0, 0]);
});

t.test('queued reviews start in order of arrival', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1 });
  const tokens = ['first', 'second', 'third', 'fourth'].map(name => new Token(name));
  const reviews = tokens.map(token => queue.authenticate(token));
  for (let at = 0; at < tokens.length; at += 1) {
    t.equal(inner.reviews.at(-1)?.token, tokens[at]);
    inner.reviews[at]?.answer(authenticated);
    await reviews[at];
    await settle();
  }
});

t.test('a new request does not overtake a queued review or exceed the limit', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1 });
  const first = queue.authenticate(token);
  const second = queue.authenticate(token);
  inner.reviews[0]?.answer(authenticated);
  // A new request arrives in every microtask between the end of the first review and the start of
  // the second.
  const newcomers: unknown[] = [];
  for (let microtask = 0; microtask < 20; microtask += 1) {
    await null;
    newcomers.push(queue.authenticate(token));
    t.ok(queue.inFlight('unverified') <= 1);
  }
  await first;
  t.equal(inner.reviews.length, 2, 'only the second review runs');
  inner.reviews[1]?.answer(authenticated);
  t.equal(await second, authenticated);
});

t.test('a request is rejected immediately as overloaded only while the queue is full', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1, maxQueue: 2 });
  const running = queue.authenticate(token);
  const waiting = [queue.authenticate(token), queue.authenticate(token)];
  t.strictSame(await queue.authenticate(token), OVERLOADED);
  t.strictSame(busy(queue), [1, 2]);

  inner.reviews[0]?.answer(authenticated);
  await running;
  await settle();
  const late = queue.authenticate(token);
  t.strictSame(busy(queue), [1, 2], 'the queue has room again');
  for (let at = 1; at < 4; at += 1) {
    inner.reviews[at]?.answer(authenticated);
    await settle();
  }
  t.strictSame(await Promise.all([...waiting, late]), [authenticated, authenticated, authenticated]);
});

t.test('with a queue of 0, a request without a free slot is rejected immediately', async t => {
  const { queue } = startQueue({ maxConcurrency: 1, maxQueue: 0 });
  queue.authenticate(token);
  t.strictSame(await queue.authenticate(token), OVERLOADED);
});

t.test('a queued review whose deadline passes leaves the queue and never starts', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1 });
  const deadline = new AbortController();
  const running = queue.authenticate(token);
  const waiting = queue.authenticate(token, { signal: deadline.signal });
  const behind = queue.authenticate(token);
  deadline.abort();
  t.strictSame(await waiting, OVERLOADED);
  t.equal(queue.queued('unverified'), 1);

  inner.reviews[0]?.answer(authenticated);
  await running;
  await settle();
  t.equal(inner.reviews.length, 2, 'the slot went to the next review');
  inner.reviews[1]?.answer(authenticated);
  t.equal(await behind, authenticated);
  t.strictSame(busy(queue), [0, 0]);
});

t.test('an admitted review gets the signal, and the queue removes its listeners from it', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1 });
  const { signal } = new AbortController();
  const running = queue.authenticate(token);
  const waiting = queue.authenticate(token, { signal });
  inner.reviews[0]?.answer(authenticated);
  await running;
  await settle();
  t.equal(inner.reviews[1]?.signal, signal);
  t.equal(getEventListeners(signal, 'abort').length, 0);
  inner.reviews[1]?.answer(authenticated);
  await waiting;
});

t.test('a review that throws or rejects frees its slot', async t => {
  let calls = 0;
  const queue = withReviewQueue(
    {
      authenticate() {
        calls += 1;
        if (calls === 1) throw new Error('synchronous');
        if (calls === 2) return Promise.reject(new Error('asynchronous'));
        return authenticated;
      },
    },
    { maxConcurrency: 1, maxQueue: 1, maxWaitMs: 60_000, unverifiedShare: () => 1 },
  );
  await t.rejects(Promise.resolve(queue.authenticate(token)), { message: 'synchronous' });
  await t.rejects(Promise.resolve(queue.authenticate(token)), { message: 'asynchronous' });
  t.equal(await queue.authenticate(token), authenticated);
  t.equal(queue.inFlight('unverified'), 0);
});

t.test('onAdmitted receives how long a review waited, in seconds', async t => {
  const clock = fakeClock();
  const waits: number[] = [];
  const { inner, queue } = startQueue({
    maxConcurrency: 1,
    now: clock.now,
    onAdmitted: seconds => waits.push(seconds),
  });
  const running = queue.authenticate(token);
  const waiting = queue.authenticate(token);
  t.strictSame(waits, [0]);
  clock.advance(2500);
  inner.reviews[0]?.answer(authenticated);
  await running;
  await settle();
  t.strictSame(waits, [0, 2.5]);
  inner.reviews[1]?.answer(authenticated);
  await waiting;
});

t.test('queue times are measured with the real clock by default', async t => {
  const waits: number[] = [];
  const { inner, queue } = startQueue({ maxConcurrency: 1, onAdmitted: seconds => waits.push(seconds) });
  const reviews = [queue.authenticate(token), queue.authenticate(token)];
  inner.reviews[0]?.answer(authenticated);
  await settle();
  inner.reviews[1]?.answer(authenticated);
  await Promise.all(reviews);
  t.equal(waits.length, 2);
  t.ok(waits.every(seconds => seconds >= 0 && seconds < 60));
});

t.test('a review that waited past maxWaitMs does not start, and its slot goes to the next', async t => {
  const clock = fakeClock();
  const { inner, queue } = startQueue({ maxConcurrency: 1, maxWaitMs: 1000, now: clock.now });
  const running = queue.authenticate(token);
  const tooLate = queue.authenticate(token);
  clock.advance(500);
  const inTime = queue.authenticate(token);
  clock.advance(501);
  inner.reviews[0]?.answer(authenticated);
  t.equal(await running, authenticated);
  t.strictSame(await tooLate, OVERLOADED);
  await settle();
  t.equal(inner.reviews.length, 2);
  inner.reviews[1]?.answer(authenticated);
  t.equal(await inTime, authenticated);
  t.strictSame(busy(queue), [0, 0]);
});

const throttled = (retryAfterSeconds = 1) => unavailable('too_many_requests', retryAfterSeconds);

t.test('a flood of unverified tokens gets at most its share of slots and does not delay verified tokens', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 8, maxQueue: 16, unverifiedShare: () => 1 / 4 });
  const rejections: string[] = [];
  const reporting = startQueue({
    maxConcurrency: 8,
    maxQueue: 16,
    unverifiedShare: () => 1 / 4,
    onRejected: (priority, cause) => rejections.push(`${priority}: ${cause}`),
  });
  for (let flood = 0; flood < 100; flood += 1) {
    queue.authenticate(token);
    reporting.queue.authenticate(token);
  }
  t.equal(inner.reviews.length, 2);
  t.equal(queue.queued('unverified'), 4);
  t.equal(rejections.length, 94);
  t.strictSame([...new Set(rejections)], ['unverified: queue_full']);
  for (let verified = 0; verified < 6; verified += 1) queue.authenticate(token, { priority: 'verified' });
  t.equal(inner.reviews.length, 8, 'each verified token is reviewed immediately');
});

t.test(
  'rejections lower the unverified limit during valid traffic; allows and the end of that traffic raise it',
  async t => {
    const validTraffic = { active: true };
    const { inner, queue } = startQueue({
      maxConcurrency: 16,
      unverifiedShare: () => 1 / 4,
      validTokensInUse: () => validTraffic.active,
      now: fakeClock().now,
    });
    for (let flood = 0; flood < 20; flood += 1) queue.authenticate(token);
    t.equal(queue.inFlight('unverified'), 4);
    let answered = 0;
    const respond = async (result: AuthResult) => {
      inner.reviews[answered++]?.answer(result);
      await settle();
    };
    for (let rejection = 0; rejection < 6; rejection += 1)
      await respond({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    t.equal(queue.inFlight('unverified'), 1);
    await respond(authenticated);
    t.equal(queue.inFlight('unverified'), 2);
    validTraffic.active = false;
    await respond({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    t.equal(queue.inFlight('unverified'), 4, 'without valid traffic the limit is the full share');
  },
);

t.test('if no token can be verified, unverified tokens keep at least a quarter of the slots', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 16, validTokensInUse: () => true, now: fakeClock().now });
  for (let flood = 0; flood < 40; flood += 1) queue.authenticate(token);
  t.equal(queue.inFlight('unverified'), 16);
  for (let rejection = 0; rejection < 20; rejection += 1) {
    inner.reviews[rejection]?.answer({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    await settle();
  }
  t.equal(queue.inFlight('unverified'), 4);
});

t.test('slow rejections of unverified tokens do not cause verified tokens to be rejected as overloaded', async t => {
  const clock = fakeClock();
  const { inner, queue } = startQueue({
    maxConcurrency: 4,
    maxWaitMs: 1500,
    unverifiedShare: () => 1 / 4,
    now: clock.now,
  });
  for (let review = 0; review < 50; review += 1) {
    const slow = queue.authenticate(token);
    clock.advance(3000);
    inner.reviews[review]?.answer({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    await slow;
  }
  const burst = Array.from({ length: 40 }, () => queue.authenticate(token, { priority: 'verified' }));
  for (let review = 50; review < 90; review += 1) {
    inner.reviews[review]?.answer(authenticated);
    await settle();
  }
  t.strictSame(new Set(await Promise.all(burst)), new Set([authenticated]));
});

t.test('a request whose expected wait exceeds maxWaitMs is rejected immediately', async t => {
  const clock = fakeClock();
  const rejections: string[] = [];
  const { inner, queue } = startQueue({
    maxConcurrency: 1,
    maxWaitMs: 100,
    now: clock.now,
    onRejected: (_priority, cause) => rejections.push(cause),
  });
  // Reviews of one second each, until the queue expects that duration.
  for (let review = 0; review < 50; review += 1) {
    const running = queue.authenticate(token);
    clock.advance(1000);
    inner.reviews[review]?.answer(authenticated);
    await running;
  }
  queue.authenticate(token);
  const waiting = queue.authenticate(token);
  t.equal(queue.queued('unverified'), 1, 'the first in the queue always waits');
  t.strictSame(await queue.authenticate(token), OVERLOADED);
  t.strictSame(rejections, ['queue_timeout']);
  clock.advance(101);
  inner.reviews.at(-1)?.answer(authenticated);
  t.strictSame(await waiting, OVERLOADED, 'it waited past maxWaitMs');
  t.strictSame(busy(queue), [0, 0]);
});

t.test('a wave of 429 responses halves the concurrency limit, and successes restore it', async t => {
  const clock = fakeClock();
  const { inner, queue } = startQueue({ maxConcurrency: 8, now: clock.now });
  t.teardown(() => inner.reviews.at(-1)?.answer(authenticated));
  const wave = Array.from({ length: 8 }, () => queue.authenticate(token, { priority: 'verified' }));
  clock.advance(5);
  for (const review of inner.reviews) review.answer(throttled());
  await Promise.all(wave);
  t.equal(queue.limit, 4);
  for (let review = 8; review < 200; review += 1) {
    const running = queue.authenticate(token, { priority: 'verified' });
    inner.reviews[review]?.answer(authenticated);
    await running;
  }
  t.equal(queue.limit, 8);
});

t.test('after a 429, only verified tokens are reviewed until Retry-After or a success', async t => {
  const clock = fakeClock();
  const { inner, queue } = startQueue({ maxConcurrency: 8, maxWaitMs: 1500, now: clock.now });
  const first = queue.authenticate(token);
  clock.advance(1);
  inner.reviews[0]?.answer(throttled(60));
  await first;
  clock.advance(500);
  t.strictSame(await queue.authenticate(token), throttled(60), 'Retry-After exceeds maxWaitMs');
  const verified = queue.authenticate(token, { priority: 'verified' });
  t.equal(inner.reviews.length, 2);
  inner.reviews[1]?.answer(authenticated);
  await verified;
  queue.authenticate(token);
  t.equal(inner.reviews.length, 3, 'the success ended the pause');
});

t.test('the success of a review sent before a 429 does not end the pause', async t => {
  const clock = fakeClock();
  const { inner, queue } = startQueue({ maxConcurrency: 8, maxWaitMs: 1500, now: clock.now });
  const before = [queue.authenticate(token), queue.authenticate(token)];
  clock.advance(1);
  inner.reviews[0]?.answer(throttled(60));
  await before[0];
  inner.reviews[1]?.answer(authenticated);
  t.equal(await before[1], authenticated);
  t.strictSame(await queue.authenticate(token), throttled(60));
  const after = queue.authenticate(token, { priority: 'verified' });
  inner.reviews[2]?.answer(authenticated);
  await after;
  queue.authenticate(token);
  t.equal(inner.reviews.length, 4);
});

t.test('a review queued before a 429 starts after its Retry-After', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1 });
  const first = queue.authenticate(token);
  const waiting = queue.authenticate(token);
  inner.reviews[0]?.answer(throttled(0.02));
  await first;
  await settle();
  t.equal(inner.reviews.length, 1);
  while (inner.reviews.length < 2) await settle();
  inner.reviews[1]?.answer(authenticated);
  t.equal(await waiting, authenticated);
});

t.test('a request whose signal is already aborted is rejected without queueing', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1 });
  queue.authenticate(token);
  t.strictSame(await queue.authenticate(token, { signal: AbortSignal.abort() }), OVERLOADED);
  t.equal(queue.queued('unverified'), 0);
  t.equal(inner.reviews.length, 1);
});

t.test('a verified token waits only for a free slot while other priorities are paused', async t => {
  const { inner, queue } = startQueue({ maxConcurrency: 1, maxWaitMs: 1500 });
  const first = queue.authenticate(token);
  inner.reviews[0]?.answer(throttled(60));
  await first;
  const running = queue.authenticate(token, { priority: 'verified' });
  const waiting = queue.authenticate(token, { priority: 'verified' });
  t.equal(queue.queued('verified'), 1);
  inner.reviews[1]?.answer(authenticated);
  await running;
  while (inner.reviews.length < 3) await settle();
  inner.reviews[2]?.answer(authenticated);
  t.equal(await waiting, authenticated);
});

t.test('a 429 with "Retry-After: 0" starts no pause: the next unverified token is reviewed at once', async t => {
  const clock = fakeClock();
  const { inner, queue } = startQueue({ maxConcurrency: 2, now: clock.now });
  const first = queue.authenticate(token);
  inner.reviews[0]?.answer(throttled(0));
  t.strictSame(await first, throttled(0));
  const next = queue.authenticate(token);
  t.equal(inner.reviews.length, 2);
  inner.reviews[1]?.answer(authenticated);
  t.equal(await next, authenticated);
});
