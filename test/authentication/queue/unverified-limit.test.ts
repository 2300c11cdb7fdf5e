import t from 'tap';
import { createUnverifiedLimit } from '../../../src/authentication/queue/unverified-limit.ts';
import type { AuthResult } from '../../../src/authentication/token-authenticator.ts';
import { unavailable } from '../../../src/authentication/token-authenticator.ts';
import { fakeClock } from '../../fixtures/clock.ts';
import { acceptedAs } from '../../fixtures/verdicts.ts';

const yes = acceptedAs();
const no: AuthResult = { kind: 'rejected', reason: 'token_rejected', detail: '' };

function start(protecting = true, kept = 1) {
  const clock = fakeClock();
  const state = { protecting };
  const places = createUnverifiedLimit({ protecting: () => state.protecting, kept: () => kept, now: clock.now });
  const after = (...verdicts: AuthResult[]) => {
    for (const verdict of verdicts) places.learn(verdict);
    return places.current(8);
  };
  return { clock, state, places, after };
}

t.test('each refusal halves the places, down to one, and each yes gives one back, up to the share', async t => {
  const { after } = start();
  t.equal(after(), 8);
  t.strictSame([after(no), after(no), after(no), after(no)], [4, 2, 1, 1]);
  t.strictSame([after(yes), after(yes, yes), after(...Array(20).fill(yes))], [2, 4, 8]);
  t.equal(after(no), 4, 'no more are given back than there are');
});

t.test('an answer that is no result changes nothing', async t => {
  const { after } = start();
  t.equal(after(), 8);
  t.equal(after(no), 4);
  t.equal(after(unavailable('timeout')), 4);
});

t.test('where nobody’s good token is asked about there is nobody to yield to', async t => {
  const { after, state } = start(false);
  t.equal(after(no, no, no), 8);
  state.protecting = true;
  t.equal(after(no), 4, 'what came before is not held against it');
  state.protecting = false;
  t.equal(after(), 8);
});

t.test('a second after the last refusal the priority has its share again', async t => {
  const { after, clock } = start();
  t.equal(after(), 8);
  t.equal(after(no, no), 2);
  clock.advance(999);
  t.equal(after(), 2);
  clock.advance(1);
  t.equal(after(), 8);
});

t.test('a share that shrinks is heeded at once', async t => {
  const { places } = start();
  t.equal(places.current(8), 8);
  t.equal(places.current(3), 3);
  places.learn(no);
  t.equal(places.current(8), 1);
});

t.test('some are kept whatever is refused, though never more than there are', async t => {
  const { after, places } = start(true, 2.5);
  t.equal(after(), 8);
  t.strictSame([after(no), after(no), after(no)], [4, 2, 2]);
  t.equal(after(yes), 3, 'and are what is added to');
  t.equal(places.current(1), 1);
  t.equal(start(true, 0.25).after(no, no, no, no, no), 1, 'one always');
});
