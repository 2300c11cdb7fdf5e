import { getEventListeners } from 'node:events';
import t from 'tap';
import {
  type ReviewQueue,
  type ReviewQueueOptions,
  withReviewQueue,
} from '../../../src/authentication/queue/review-queue.ts';
import { type AuthResult, unavailable } from '../../../src/authentication/token-authenticator.ts';
import { Token } from '../../../src/credential/token.ts';
import { fakeClock } from '../../fixtures/clock.ts';
import { scriptedAuthority } from '../../fixtures/stub-authenticator.ts';
import { acceptedAs } from '../../fixtures/verdicts.ts';

const token = new Token('a-token');
const yes = acceptedAs();
const OVERLOADED = { kind: 'unavailable', reason: 'overloaded', cause: 'too_many_reviews', retryAfterSeconds: 1 };

function guarded(options: Partial<ReviewQueueOptions> & { maxConcurrency: number }) {
  const inner = scriptedAuthority();
  return {
    inner,
    guard: withReviewQueue(inner, { maxQueue: 100, maxWaitMs: 60_000, unverifiedShare: () => 1, ...options }),
  };
}

/** How many reviews are under way, and how many wait. */
const busy = (guard: ReviewQueue) => [guard.inFlight('unverified'), guard.queued('unverified')];

/** Lets every continuation that is due run. */
const settle = () => new Promise(resolve => setImmediate(resolve));

t.test('no more reviews run at once than may, and the others wait and are counted', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 2 });
  const reviews = [1, 2, 3, 4, 5].map(() => guard.authenticate(token));
  t.equal(inner.asked.length, 2);
  t.strictSame(busy(guard), [2, 3]);

  inner.asked[0]?.answer(yes);
  await reviews[0];
  await settle();
  t.equal(inner.asked.length, 3);
  t.strictSame(busy(guard), [2, 2]);

  while (inner.asked.length < 5) {
    for (const review of inner.asked) review.answer(yes);
    await settle();
  }
  for (const review of inner.asked) review.answer(yes);
  t.strictSame(await Promise.all(reviews), [yes, yes, yes, yes, yes]);
  t.strictSame(busy(guard), [0, 0]);
});

t.test('who waits is served in the order of coming', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1 });
  const tokens = ['first', 'second', 'third', 'fourth'].map(name => new Token(name));
  const reviews = tokens.map(one => guard.authenticate(one));
  for (let at = 0; at < tokens.length; at += 1) {
    t.equal(inner.asked.at(-1)?.token, tokens[at]);
    inner.asked[at]?.answer(yes);
    await reviews[at];
    await settle();
  }
});

t.test('a newcomer never takes the place of who has waited, nor one beside it', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1 });
  const first = guard.authenticate(token);
  const second = guard.authenticate(token);
  inner.asked[0]?.answer(yes);
  // In every turn between the end of the first review and the start of the second somebody new comes.
  const newcomers: unknown[] = [];
  for (let turn = 0; turn < 20; turn += 1) {
    await null;
    newcomers.push(guard.authenticate(token));
    t.ok(guard.inFlight('unverified') <= 1);
  }
  await first;
  t.equal(inner.asked.length, 2, 'only the second review runs');
  inner.asked[1]?.answer(yes);
  t.equal(await second, yes);
});

t.test('whoever finds the queue full is told at once, and nobody else is', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1, maxQueue: 2 });
  const running = guard.authenticate(token);
  const waiting = [guard.authenticate(token), guard.authenticate(token)];
  t.strictSame(await guard.authenticate(token), OVERLOADED);
  t.strictSame(busy(guard), [1, 2]);

  inner.asked[0]?.answer(yes);
  await running;
  await settle();
  const late = guard.authenticate(token);
  t.strictSame(busy(guard), [1, 2], 'there is room in the queue again');
  for (let at = 1; at < 4; at += 1) {
    inner.asked[at]?.answer(yes);
    await settle();
  }
  t.strictSame(await Promise.all([...waiting, late]), [yes, yes, yes]);
});

t.test('without a queue, whoever finds no place is told at once', async t => {
  const { guard } = guarded({ maxConcurrency: 1, maxQueue: 0 });
  guard.authenticate(token);
  t.strictSame(await guard.authenticate(token), OVERLOADED);
});

t.test('whoever’s time ends while waiting leaves the queue, and is never asked about', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1 });
  const controller = new AbortController();
  const running = guard.authenticate(token);
  const waiting = guard.authenticate(token, { signal: controller.signal });
  const behind = guard.authenticate(token);
  controller.abort();
  t.strictSame(await waiting, OVERLOADED);
  t.equal(guard.queued('unverified'), 1);

  inner.asked[0]?.answer(yes);
  await running;
  await settle();
  t.equal(inner.asked.length, 2, 'the place went to the one behind');
  inner.asked[1]?.answer(yes);
  t.equal(await behind, yes);
  t.strictSame(busy(guard), [0, 0]);
});

t.test('an admitted review gets the signal, which is left without listeners of ours', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1 });
  const { signal } = new AbortController();
  const running = guard.authenticate(token);
  const waiting = guard.authenticate(token, { signal });
  inner.asked[0]?.answer(yes);
  await running;
  await settle();
  t.equal(inner.asked[1]?.signal, signal);
  t.equal(getEventListeners(signal, 'abort').length, 0);
  inner.asked[1]?.answer(yes);
  await waiting;
});

t.test('a review that fails gives its place back', async t => {
  let calls = 0;
  const guard = withReviewQueue(
    {
      authenticate() {
        calls += 1;
        if (calls === 1) throw new Error('at once');
        if (calls === 2) return Promise.reject(new Error('later'));
        return yes;
      },
    },
    { maxConcurrency: 1, maxQueue: 1, maxWaitMs: 60_000, unverifiedShare: () => 1 },
  );
  await t.rejects(Promise.resolve(guard.authenticate(token)), { message: 'at once' });
  await t.rejects(Promise.resolve(guard.authenticate(token)), { message: 'later' });
  t.equal(await guard.authenticate(token), yes);
  t.equal(guard.inFlight('unverified'), 0);
});

t.test('each admitted review tells how long it waited, in seconds', async t => {
  const clock = fakeClock();
  const waits: number[] = [];
  const { inner, guard } = guarded({
    maxConcurrency: 1,
    now: clock.now,
    onAdmitted: seconds => waits.push(seconds),
  });
  const running = guard.authenticate(token);
  const waiting = guard.authenticate(token);
  t.strictSame(waits, [0]);
  clock.advance(2500);
  inner.asked[0]?.answer(yes);
  await running;
  await settle();
  t.strictSame(waits, [0, 2.5]);
  inner.asked[1]?.answer(yes);
  await waiting;
});

t.test('who waited is measured by the process’s own clock unless another is given', async t => {
  const waits: number[] = [];
  const { inner, guard } = guarded({ maxConcurrency: 1, onAdmitted: seconds => waits.push(seconds) });
  const reviews = [guard.authenticate(token), guard.authenticate(token)];
  inner.asked[0]?.answer(yes);
  await settle();
  inner.asked[1]?.answer(yes);
  await Promise.all(reviews);
  t.equal(waits.length, 2);
  t.ok(waits.every(seconds => seconds >= 0 && seconds < 60));
});

t.test('a review that has waited too long is not begun, and its place goes to the next', async t => {
  const clock = fakeClock();
  const { inner, guard } = guarded({ maxConcurrency: 1, maxWaitMs: 1000, now: clock.now });
  const running = guard.authenticate(token);
  const tooLate = guard.authenticate(token);
  clock.advance(500);
  const inTime = guard.authenticate(token);
  clock.advance(501);
  inner.asked[0]?.answer(yes);
  t.equal(await running, yes);
  t.strictSame(await tooLate, OVERLOADED);
  await settle();
  t.equal(inner.asked.length, 2);
  inner.asked[1]?.answer(yes);
  t.equal(await inTime, yes);
  t.strictSame(busy(guard), [0, 0]);
});

const throttled = (retryAfterSeconds = 1) => unavailable('too_many_requests', retryAfterSeconds);

t.test('a flood of unverified tokens never has more places than its share, and delays no verified one', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 8, maxQueue: 16, unverifiedShare: () => 1 / 4 });
  const refused: string[] = [];
  const other = guarded({
    maxConcurrency: 8,
    maxQueue: 16,
    unverifiedShare: () => 1 / 4,
    onRefused: (priority, why) => refused.push(`${priority}: ${why}`),
  });
  for (let junk = 0; junk < 100; junk += 1) {
    guard.authenticate(token);
    other.guard.authenticate(token);
  }
  t.equal(inner.asked.length, 2);
  t.equal(guard.queued('unverified'), 4);
  t.equal(refused.length, 94);
  t.strictSame([...new Set(refused)], ['unverified: queue_full']);
  for (let good = 0; good < 6; good += 1) guard.authenticate(token, { priority: 'verified' });
  t.equal(inner.asked.length, 8, 'each is asked about at once');
});

t.test(
  'unverified tokens that are refused yield to good ones, and have their places back when they are not',
  async t => {
    const protecting = { now: true };
    const { inner, guard } = guarded({
      maxConcurrency: 16,
      unverifiedShare: () => 1 / 4,
      protecting: () => protecting.now,
      now: fakeClock().now,
    });
    for (let junk = 0; junk < 20; junk += 1) guard.authenticate(token);
    t.equal(guard.inFlight('unverified'), 4);
    let answered = 0;
    const answer = async (verdict: AuthResult) => {
      inner.asked[answered++]?.answer(verdict);
      await settle();
    };
    for (let refusals = 0; refusals < 6; refusals += 1)
      await answer({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    t.equal(guard.inFlight('unverified'), 1);
    await answer(yes);
    t.equal(guard.inFlight('unverified'), 2);
    protecting.now = false;
    await answer({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    t.equal(guard.inFlight('unverified'), 4, 'there is nobody to yield to any more');
  },
);

t.test('where none can be verified, good ones are among those that yield, and they keep a quarter', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 16, protecting: () => true, now: fakeClock().now });
  for (let junk = 0; junk < 40; junk += 1) guard.authenticate(token);
  t.equal(guard.inFlight('unverified'), 16);
  for (let refusals = 0; refusals < 20; refusals += 1) {
    inner.asked[refusals]?.answer({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    await settle();
  }
  t.equal(guard.inFlight('unverified'), 4);
});

t.test('how long junk takes to be refused keeps no good token from waiting for its turn', async t => {
  const clock = fakeClock();
  const { inner, guard } = guarded({
    maxConcurrency: 4,
    maxWaitMs: 1500,
    unverifiedShare: () => 1 / 4,
    now: clock.now,
  });
  for (let review = 0; review < 50; review += 1) {
    const slow = guard.authenticate(token);
    clock.advance(3000);
    inner.asked[review]?.answer({ kind: 'rejected', reason: 'token_rejected', detail: '' });
    await slow;
  }
  const burst = Array.from({ length: 40 }, () => guard.authenticate(token, { priority: 'verified' }));
  for (let review = 50; review < 90; review += 1) {
    inner.asked[review]?.answer(yes);
    await settle();
  }
  t.strictSame(new Set(await Promise.all(burst)), new Set([yes]));
});

t.test('who could not get a turn in time is told now', async t => {
  const clock = fakeClock();
  const refused: string[] = [];
  const { inner, guard } = guarded({
    maxConcurrency: 1,
    maxWaitMs: 100,
    now: clock.now,
    onRefused: (_lane, why) => refused.push(why),
  });
  // Reviews of a second each, until that is what is expected.
  for (let review = 0; review < 50; review += 1) {
    const running = guard.authenticate(token);
    clock.advance(1000);
    inner.asked[review]?.answer(yes);
    await running;
  }
  guard.authenticate(token);
  const waiting = guard.authenticate(token);
  t.equal(guard.queued('unverified'), 1, 'the first in the queue may be lucky');
  t.strictSame(await guard.authenticate(token), OVERLOADED);
  t.strictSame(refused, ['queue_timeout']);
  clock.advance(101);
  inner.asked.at(-1)?.answer(yes);
  t.strictSame(await waiting, OVERLOADED, 'begun now it would be cut off');
  t.strictSame(busy(guard), [0, 0]);
});

t.test('a wave of "too_many_requests" halves what is under way at once, and answers bring it back', async t => {
  const clock = fakeClock();
  const { inner, guard } = guarded({ maxConcurrency: 8, now: clock.now });
  t.teardown(() => inner.asked.at(-1)?.answer(yes));
  const wave = Array.from({ length: 8 }, () => guard.authenticate(token, { priority: 'verified' }));
  clock.advance(5);
  for (const review of inner.asked) review.answer(throttled());
  await Promise.all(wave);
  t.equal(guard.limit, 4);
  for (let review = 8; review < 200; review += 1) {
    const running = guard.authenticate(token, { priority: 'verified' });
    inner.asked[review]?.answer(yes);
    await running;
  }
  t.equal(guard.limit, 8);
});

t.test('until its Retry-After only verified tokens are asked about, or until the API server answers', async t => {
  const clock = fakeClock();
  const { inner, guard } = guarded({ maxConcurrency: 8, maxWaitMs: 1500, now: clock.now });
  const first = guard.authenticate(token);
  clock.advance(1);
  inner.asked[0]?.answer(throttled(60));
  await first;
  clock.advance(500);
  t.strictSame(await guard.authenticate(token), throttled(60), 'a minute is more than anybody waits');
  const verified = guard.authenticate(token, { priority: 'verified' });
  t.equal(inner.asked.length, 2);
  inner.asked[1]?.answer(yes);
  await verified;
  guard.authenticate(token);
  t.equal(inner.asked.length, 3, 'its answer says that there is room again');
});

t.test('the answer to what was asked before the API server wanted less does not say that there is room', async t => {
  const clock = fakeClock();
  const { inner, guard } = guarded({ maxConcurrency: 8, maxWaitMs: 1500, now: clock.now });
  const before = [guard.authenticate(token), guard.authenticate(token)];
  clock.advance(1);
  inner.asked[0]?.answer(throttled(60));
  await before[0];
  inner.asked[1]?.answer(yes);
  t.equal(await before[1], yes);
  t.strictSame(await guard.authenticate(token), throttled(60));
  const after = guard.authenticate(token, { priority: 'verified' });
  inner.asked[2]?.answer(yes);
  await after;
  guard.authenticate(token);
  t.equal(inner.asked.length, 4);
});

t.test('who waits already when the API server asks for less has its turn when that is over', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1 });
  const first = guard.authenticate(token);
  const waiting = guard.authenticate(token);
  inner.asked[0]?.answer(throttled(0.02));
  await first;
  await settle();
  t.equal(inner.asked.length, 1);
  while (inner.asked.length < 2) await settle();
  inner.asked[1]?.answer(yes);
  t.equal(await waiting, yes);
});

t.test('who comes with no time left gets no turn', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1 });
  guard.authenticate(token);
  t.strictSame(await guard.authenticate(token, { signal: AbortSignal.abort() }), OVERLOADED);
  t.equal(guard.queued('unverified'), 0);
  t.equal(inner.asked.length, 1);
});

t.test('a verified token waits for its turn alone, whatever is held', async t => {
  const { inner, guard } = guarded({ maxConcurrency: 1, maxWaitMs: 1500 });
  const first = guard.authenticate(token);
  inner.asked[0]?.answer(throttled(60));
  await first;
  const running = guard.authenticate(token, { priority: 'verified' });
  const waiting = guard.authenticate(token, { priority: 'verified' });
  t.equal(guard.queued('verified'), 1);
  inner.asked[1]?.answer(yes);
  await running;
  while (inner.asked.length < 3) await settle();
  inner.asked[2]?.answer(yes);
  t.equal(await waiting, yes);
});
