import t from 'tap';
import { createValidTraffic } from '../../src/authentication/valid-traffic.ts';
import { Token } from '../../src/credential/token.ts';
import { fakeClock } from '../fixtures/clock.ts';

t.test('traffic is active for a second after the last valid token', t => {
  const clock = fakeClock();
  const traffic = createValidTraffic(clock.now);
  t.equal(traffic.isActive(), false, 'no valid token was seen yet');
  traffic.note();
  clock.advance(999);
  t.equal(traffic.isActive(), true);
  traffic.note();
  clock.advance(999);
  t.equal(traffic.isActive(), true, 'another valid token starts the second again');
  clock.advance(1);
  t.equal(traffic.isActive(), false);
  t.end();
});

t.test('a token whose signature is valid is valid traffic, and is known as verified', t => {
  const clock = fakeClock();
  const traffic = createValidTraffic(clock.now);
  const [verified, other] = [new Token('a'), new Token('a')];
  traffic.noteVerified(verified);
  t.strictSame([traffic.isVerified(verified), traffic.isVerified(other)], [true, false]);
  t.equal(traffic.isActive(), true);
  clock.advance(1000);
  t.equal(traffic.isActive(), false);
  t.end();
});

t.test('the process clock is used unless a test passes its own', t => {
  const traffic = createValidTraffic();
  traffic.note();
  t.equal(traffic.isActive(), true);
  t.end();
});
