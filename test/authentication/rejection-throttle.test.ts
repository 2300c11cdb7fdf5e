import { getEventListeners } from 'node:events';
import t from 'tap';
import type { CacheKey } from '../../src/authentication/cache/cache-key.ts';
import type { CachedResult } from '../../src/authentication/cache/cached-result.ts';
import { withResultCache } from '../../src/authentication/cache/result-cache.ts';
import { createResultStore } from '../../src/authentication/cache/result-store.ts';
import { type RejectionThrottleOptions, withRejectionThrottle } from '../../src/authentication/rejection-throttle.ts';
import {
  type AuthResult,
  type Rejected,
  type ReviewContext,
  unavailable,
} from '../../src/authentication/token-authenticator.ts';
import { Token } from '../../src/credential/token.ts';
import { authenticatedAs } from '../fixtures/authenticated-result.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { stubAuthenticator } from '../fixtures/stub-authenticator.ts';

const token = new Token('opaque');
const rejection: Rejected = { kind: 'rejected', reason: 'token_rejected', detail: '' };
const overloaded: AuthResult = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'too_many_reviews',
  retryAfterSeconds: 1,
};

const settle = () => new Promise(resolve => setImmediate(resolve));

function throttle(answer: () => AuthResult | Promise<AuthResult>, options: Partial<RejectionThrottleOptions> = {}) {
  const timers: (() => void)[] = [];
  const waits: number[] = [];
  const traffic = { active: true };
  const inner = stubAuthenticator(answer);
  const stage = withRejectionThrottle(inner, {
    isActive: () => traffic.active,
    intervalMs: 4,
    maxWaiting: 10,
    setTimer(callback, ms) {
      waits.push(ms);
      timers.push(callback);
    },
    ...options,
  });
  const returned: string[] = [];
  /** Sends a request. @returns whether its result is delayed. */
  const request = (name: string, context?: ReviewContext): boolean => {
    const result = stage.authenticate(token, context);
    if (!(result instanceof Promise)) return false;
    void result.then(() => returned.push(name));
    return true;
  };
  /** Lets one interval pass. */
  const tick = async () => {
    timers.shift()?.();
    await settle();
  };
  return { stage, inner, traffic, timers, waits, returned, request, tick };
}

t.test('no result is delayed while no valid token is in use', t => {
  const { traffic, request, timers } = throttle(() => rejection);
  traffic.active = false;
  for (let count = 0; count < 100; count += 1) t.equal(request('rejected'), false);
  t.equal(timers.length, 0);
  t.end();
});

t.test('while valid tokens are in use, one rejection is returned per interval, first in, first out', async t => {
  const { request, tick, returned, timers, waits } = throttle(() => rejection);
  for (const name of ['1', '2', '3']) t.ok(request(name));
  t.equal(timers.length, 1, 'one timer for all');
  await settle();
  t.strictSame(returned, []);
  await tick();
  t.strictSame(returned, ['1']);
  await tick();
  t.strictSame(returned, ['1', '2']);
  await tick();
  t.strictSame(returned, ['1', '2', '3']);
  t.equal(timers.length, 0, 'no timer is left');
  t.strictSame(waits, [4, 4, 4]);
});

t.test('rejections and overloaded results are delayed and unchanged, whether they come at once or later', async t => {
  for (const result of [rejection, overloaded]) {
    for (const answer of [() => result, async () => result]) {
      const { stage, tick } = throttle(answer);
      let received: AuthResult | undefined;
      void Promise.resolve(stage.authenticate(token)).then(one => {
        received = one;
      });
      await settle();
      t.equal(received, undefined, result.kind);
      await tick();
      t.equal(received, result);
    }
  }
});

t.test('an authenticated result and a fault of the API server are never delayed', async t => {
  for (const result of [authenticatedAs(), unavailable('timeout'), unavailable('too_many_requests')]) {
    const now = throttle(() => result);
    t.equal(now.stage.authenticate(token), result);
    const later = throttle(async () => result);
    t.equal(await later.stage.authenticate(token), result);
    t.equal(now.timers.length + later.timers.length, 0);
  }
});

t.test('the results of a token with a valid signature are never delayed', async t => {
  const options = { isExempt: (one: Token) => one === token };
  for (const result of [rejection, overloaded]) {
    const now = throttle(() => result, options);
    t.equal(now.stage.authenticate(token), result);
    t.type(now.stage.authenticate(new Token('other')), Promise);
    t.equal(await throttle(async () => result, options).stage.authenticate(token), result);
  }
});

t.test('a rejected refresh is not delayed, so that it ends the cached result at once', async t => {
  const { stage, inner, timers } = throttle(async () => rejection);
  const context = { priority: 'refresh' } as const;
  t.equal(await stage.authenticate(token, context), rejection);
  t.equal(inner.reviews[0]?.context, context);
  t.equal(timers.length, 0);
});

t.test('a rejection that finds the waiting list full is returned immediately', t => {
  const { request } = throttle(() => rejection, { maxWaiting: 2 });
  t.ok(request('1'));
  t.ok(request('2'));
  t.equal(request('3'), false);
  t.end();
});

t.test('rejections that wait when the valid traffic ends are still returned', async t => {
  const { request, traffic, tick, returned } = throttle(() => rejection);
  request('1');
  request('2');
  traffic.active = false;
  t.equal(request('3'), false);
  await tick();
  await tick();
  t.strictSame(returned, ['1', '2']);
});

t.test('a delay ends when its signal aborts, leaves nothing behind and hurries no other result', async t => {
  const { request, timers, tick, returned } = throttle(() => rejection, { maxWaiting: 2 });
  const controller = new AbortController();
  const { signal } = controller;
  t.ok(request('late', { signal }));
  t.ok(request('next'));
  t.equal(request('full'), false);
  controller.abort();
  await settle();
  t.strictSame(returned, ['late']);
  t.equal(request('aborted', { signal }), false, 'after the abort nothing is delayed');
  t.ok(request('last'));
  t.equal(timers.length, 1, 'still one timer for all');
  await tick();
  t.strictSame(returned, ['late', 'next']);
  await tick();
  t.strictSame(returned, ['late', 'next', 'last']);

  const other = new AbortController();
  request('in time', { signal: other.signal });
  await tick();
  t.equal(returned.at(-1), 'in time');
  t.equal(getEventListeners(other.signal, 'abort').length, 0);

  const alone = new AbortController();
  request('alone', { signal: alone.signal });
  alone.abort();
  await tick();
  t.equal(timers.length, 0, 'no timer runs for an empty list');
});

t.test('the signal of a result that is not delayed is not read, because reading creates it', t => {
  const context: ReviewContext = {
    get signal(): AbortSignal {
      throw new Error('the signal was read');
    },
  };
  for (const [result, active] of [
    [authenticatedAs(), true],
    [rejection, false],
  ] as const) {
    const options = { isActive: () => active, intervalMs: 4, maxWaiting: 1 };
    const stage = withRejectionThrottle({ authenticate: () => result }, options);
    t.equal(stage.authenticate(token, context), result);
  }
  t.end();
});

t.test('a token that was rejected while its rejection waits is not served stale at the deadline', async t => {
  const clock = fakeClock();
  const answers: AuthResult[] = [authenticatedAs(), rejection];
  // No timer fires: the rejection waits until the deadline of the review.
  const { stage, inner } = throttle(() => answers.shift() ?? unavailable('timeout'));
  const authenticatedStore = createResultStore<CachedResult>({ maxEntries: 10, clock });
  const cache = withResultCache(stage, {
    key: () => 'key' as CacheKey,
    authenticatedStore,
    rejectedStore: createResultStore({ maxEntries: 10, clock }),
    ttlMs: 10_000,
    negativeTtlMs: 10_000,
    cacheStaleIfErrorMs: 60_000,
    cacheRefreshAhead: false,
    reviewTimeoutMs: 20,
    now: clock.now,
    wallClock: clock.now,
    apiServerDown: () => false,
  });
  // The deadline's timer keeps no process alive.
  const alive = setInterval(() => {}, 1000);
  t.teardown(() => clearInterval(alive));
  t.match(await cache.authenticate(token), { kind: 'authenticated' });
  clock.advance(10_001);
  t.equal(await cache.authenticate(token), rejection, 'neither a timeout nor the stale result');
  t.equal(authenticatedStore.size, 0, 'the stale result is gone');
  t.equal(await cache.authenticate(token), rejection);
  t.equal(inner.reviews.length, 2, 'the rejection is cached');
});

t.test('real timers are used unless a test passes its own', async t => {
  const stage = withRejectionThrottle(
    stubAuthenticator(() => rejection),
    { isActive: () => true, intervalMs: 1, maxWaiting: 1 },
  );
  // The throttle's timer keeps no process alive.
  const alive = setInterval(() => {}, 1000);
  t.teardown(() => clearInterval(alive));
  const result = stage.authenticate(token);
  t.type(result, Promise);
  t.equal(await result, rejection);
});
