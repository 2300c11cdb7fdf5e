import t from 'tap';
import { comparingClocks, serverClock } from '../../src/authentication/server-clock.ts';
import type { KubeApiClient } from '../../src/kube/api-client.ts';
import { fakeClock } from '../fixtures/clock.ts';

const EPOCH = Date.UTC(2025, 5, 1, 12);

/** Creates a local clock ahead of the API server's by `aheadMs`. Both advance together. */
function skewed(aheadMs: number) {
  const mono = fakeClock();
  const changes: (readonly [differs: boolean, seconds: number])[] = [];
  let ahead = aheadMs;
  const clock = serverClock({
    now: mono.now,
    wallClock: () => EPOCH + mono.now() + ahead,
    onChange: (differs, skewMs) => changes.push([differs, Math.round(skewMs / 1000)]),
  });
  const serverTime = () => EPOCH + mono.now();
  return {
    clock,
    mono,
    changes,
    serverTime,
    /** Sets gatecar's clock. */
    set(ms: number) {
      ahead = ms;
    },
    /**
     * Compares with a response that took `takesMs`. The sender's clock differs from the API
     * server's by `byMs`, and it stamps the response halfway.
     */
    respond({ takesMs = 10, byMs = 0 } = {}) {
      const startedAt = mono.now();
      mono.advance(takesMs / 2);
      const sentAtMs = Math.floor((serverTime() + byMs) / 1000) * 1000;
      mono.advance(takesMs / 2);
      clock.compare(sentAtMs, startedAt);
    },
  };
}

t.test('before the first response the clock state is unknown and the local time is used', async t => {
  const { clock, serverTime } = skewed(600_000);
  t.equal(clock.state, 'unknown');
  t.equal(clock.skewMs, undefined);
  t.equal(clock.time(), serverTime() + 600_000);
  t.ok(clock.freshUntil < 0);
});

t.test('clocks agree up to a skew of 30 s, with the resolution of the header on the safe side', async t => {
  for (const [aheadMs, state] of [
    [0, 'agrees'],
    [28_900, 'agrees'],
    [-28_900, 'agrees'],
    [30_100, 'differs'],
    [-30_100, 'differs'],
    [-600_000, 'differs'],
    [1_200_000, 'differs'],
  ] as const) {
    const { clock, respond, changes } = skewed(aheadMs);
    respond();
    t.equal(clock.state, state, `${aheadMs}`);
    t.equal(changes.length, state === 'differs' ? 1 : 0);
  }
});

t.test('the skew is reported to the second, and as zero if the bounds allow it', async t => {
  for (const aheadMs of [-600_000, -1800, 0, 1800, 1_200_000]) {
    const { clock, mono, respond } = skewed(aheadMs);
    mono.advance(700);
    for (let times = 0; times < 20; times += 1) {
      respond({ takesMs: 30 });
      mono.advance(137);
    }
    t.ok(Math.abs((clock.skewMs ?? Number.NaN) - aheadMs) < 150, `${aheadMs}: ${clock.skewMs}, by many responses`);
    if (aheadMs === 0) t.equal(clock.skewMs, 0);
  }
});

t.test('the time of the API server is never earlier than it is, and at most a second later', async t => {
  for (const aheadMs of [-600_000, 0, 1_200_000]) {
    const { clock, mono, respond, serverTime } = skewed(aheadMs);
    for (const takesMs of [0, 4000, 10]) {
      respond({ takesMs });
      mono.advance(300);
      const late = clock.time() - serverTime();
      t.ok(late >= 0 && late <= 1000 + takesMs, `${aheadMs}, ${takesMs}: ${late}`);
    }
  }
});

t.test('a slow response does not narrow the skew, and one over five seconds is ignored', async t => {
  const { clock, respond } = skewed(600_000);
  respond({ takesMs: 5001 });
  t.equal(clock.state, 'unknown');
  respond();
  const { skewMs } = clock;
  respond({ takesMs: 5000 });
  t.equal(clock.skewMs, skewMs);
});

t.test('a clock comparison is valid for ten seconds', async t => {
  const { clock, mono, respond } = skewed(0);
  respond();
  t.equal(clock.freshUntil, mono.now() + 10_000);
  mono.advance(9999);
  t.equal(clock.state, 'agrees');
  mono.advance(1);
  t.equal(clock.state, 'unknown');
  respond();
  t.equal(clock.state, 'agrees');
});

t.test('after the local clock is set, it is not trusted before the next response', async t => {
  for (const ms of [-600_000, 600_000, 3000]) {
    const { clock, set, respond, serverTime } = skewed(0);
    respond();
    set(ms);
    t.equal(clock.state, 'unknown', `${ms}`);
    t.ok(clock.time() >= serverTime(), 'the change does not extend a token’s life');
    respond();
    t.equal(clock.state, Math.abs(ms) > 30_000 ? 'differs' : 'agrees');
    t.ok(Math.abs(clock.time() - serverTime()) <= 1010);
  }
});

t.test('the clocks differ if one of several API servers has a different clock, and this is logged once', async t => {
  const { clock, mono, respond, changes } = skewed(0);
  respond();
  for (let second = 0; second < 300; second += 1) {
    mono.advance(1000);
    respond({ byMs: second % 2 === 0 ? 300_000 : 0 });
    t.equal(clock.state, 'differs');
  }
  t.strictSame(changes, [[true, -300]]);
});

t.test('the clocks agree again a minute after the last difference', async t => {
  const { clock, mono, set, respond, changes } = skewed(-600_000);
  respond();
  set(0);
  respond();
  mono.advance(59_000);
  respond();
  t.equal(clock.state, 'differs');
  mono.advance(1000);
  respond();
  t.equal(clock.state, 'agrees');
  t.strictSame(changes, [
    [true, -600],
    [false, 0],
  ]);
});

t.test('the skew follows a drifting clock', async t => {
  const { clock, mono, set, respond } = skewed(0);
  for (let minute = 0; minute < 60; minute += 1) {
    set(minute * 1000);
    mono.advance(60_000);
    respond();
    t.ok(Math.abs((clock.skewMs ?? Number.NaN) - minute * 1000) <= 1000, `${minute}: ${clock.skewMs}`);
  }
  t.equal(clock.state, 'differs');
});

t.test('the server clock uses the real clocks by default', async t => {
  const clock = serverClock();
  clock.compare(Math.floor(Date.now() / 1000) * 1000, performance.now());
  t.equal(clock.state, 'agrees');
  t.ok(Math.abs(clock.time() - Date.now()) < 1000);
  clock.compare(Math.floor(Date.now() / 1000) * 1000 - 3_600_000, performance.now());
  t.equal(clock.state, 'differs');
});

t.test('only successful responses compare the clocks, since a proxy may send error responses', async t => {
  const { signal } = new AbortController();
  for (const [status, sentAtMs, compared] of [
    [200, EPOCH, true],
    [201, EPOCH, true],
    [200, undefined, false],
    [401, EPOCH, false],
    [403, EPOCH, false],
    [429, EPOCH, false],
    [502, EPOCH, false],
  ] as const) {
    const comparisons: unknown[] = [];
    const mono = fakeClock(5);
    const response = { status, body: '', retryAfterSeconds: undefined, sentAtMs };
    const requests: unknown[] = [];
    const respond = async (...args: unknown[]) => {
      requests.push(args);
      mono.advance(1000);
      return response;
    };
    const inner: KubeApiClient = { post: respond, get: respond, close: async () => void requests.push('close') };
    const clock = { compare: (...args: unknown[]) => comparisons.push(args) };
    const connection = comparingClocks(inner, clock, mono.now);
    t.equal(await connection.post('/p', 'body', signal, { a: 'b' }), response);
    t.equal(await connection.get('/g', signal), response);
    await connection.close();
    t.strictSame(requests, [['/p', 'body', signal, { a: 'b' }], ['/g', signal], 'close']);
    t.strictSame(
      comparisons,
      compared
        ? [
            [EPOCH, 5],
            [EPOCH, 1005],
          ]
        : [],
      `${status}`,
    );
  }
  const failing: KubeApiClient = {
    post: () => Promise.reject(new Error('reset')),
    get: () => Promise.reject(new Error('reset')),
    close: async () => {},
  };
  await t.rejects(comparingClocks(failing, serverClock()).get('/', signal), { message: 'reset' });
});
