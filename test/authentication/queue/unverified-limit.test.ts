import t from 'tap';
import { createUnverifiedLimit } from '../../../src/authentication/queue/unverified-limit.ts';
import type { AuthResult } from '../../../src/authentication/token-authenticator.ts';
import { unavailable } from '../../../src/authentication/token-authenticator.ts';
import { authenticatedAs } from '../../fixtures/authenticated-result.ts';
import { fakeClock } from '../../fixtures/clock.ts';

const authenticated = authenticatedAs();
const rejected: AuthResult = { kind: 'rejected', reason: 'token_rejected', detail: '' };

function startLimit(protecting = true, minSlots = 1) {
  const clock = fakeClock();
  const state = { protecting };
  const limit = createUnverifiedLimit({
    validTokensInUse: () => state.protecting,
    minSlots: () => minSlots,
    now: clock.now,
  });
  const limitAfter = (...results: AuthResult[]) => {
    for (const result of results) limit.record(result);
    return limit.current(8);
  };
  return { clock, state, limit, limitAfter };
}

t.test(
  'each rejection halves the unverified limit, down to one; each allow raises it by one, up to the share',
  async t => {
    const { limitAfter } = startLimit();
    t.equal(limitAfter(), 8);
    t.strictSame(
      [limitAfter(rejected), limitAfter(rejected), limitAfter(rejected), limitAfter(rejected)],
      [4, 2, 1, 1],
    );
    t.strictSame(
      [
        limitAfter(authenticated),
        limitAfter(authenticated, authenticated),
        limitAfter(...Array(20).fill(authenticated)),
      ],
      [2, 4, 8],
    );
    t.equal(limitAfter(rejected), 4, 'the limit was not raised above the share');
  },
);

t.test('an unavailable result does not change the unverified limit', async t => {
  const { limitAfter } = startLimit();
  t.equal(limitAfter(), 8);
  t.equal(limitAfter(rejected), 4);
  t.equal(limitAfter(unavailable('timeout')), 4);
});

t.test('without valid traffic, rejections do not lower the unverified limit', async t => {
  const { limitAfter, state } = startLimit(false);
  t.equal(limitAfter(rejected, rejected, rejected), 8);
  state.protecting = true;
  t.equal(limitAfter(rejected), 4, 'earlier rejections do not count');
  state.protecting = false;
  t.equal(limitAfter(), 8);
});

t.test('one second after the last rejection the unverified limit is the full share again', async t => {
  const { limitAfter, clock } = startLimit();
  t.equal(limitAfter(), 8);
  t.equal(limitAfter(rejected, rejected), 2);
  clock.advance(999);
  t.equal(limitAfter(), 2);
  clock.advance(1);
  t.equal(limitAfter(), 8);
});

t.test('a smaller share lowers the unverified limit immediately', async t => {
  const { limit } = startLimit();
  t.equal(limit.current(8), 8);
  t.equal(limit.current(3), 3);
  limit.record(rejected);
  t.equal(limit.current(8), 1);
});

t.test('rejections do not lower the unverified limit below its minimum, and the share caps the minimum', async t => {
  const { limitAfter, limit } = startLimit(true, 2.5);
  t.equal(limitAfter(), 8);
  t.strictSame([limitAfter(rejected), limitAfter(rejected), limitAfter(rejected)], [4, 2, 2]);
  t.equal(limitAfter(authenticated), 3, 'an allow raises the limit from the minimum');
  t.equal(limit.current(1), 1);
  t.equal(
    startLimit(true, 0.25).limitAfter(rejected, rejected, rejected, rejected, rejected),
    1,
    'the minimum is at least one',
  );
});
