import t from 'tap';
import { withLoadShedding } from '../../src/authentication/load-shedding.ts';
import { Token } from '../../src/credential/token.ts';
import { scriptedAuthority } from '../fixtures/stub-authenticator.ts';
import { acceptedAs } from '../fixtures/verdicts.ts';

const token = new Token('a-token');
const yes = acceptedAs();

t.test('while the event loop is behind, nobody is asked, and that is no result', async t => {
  let lag = 251;
  let shed = 0;
  const inner = scriptedAuthority(() => yes);
  const authority = withLoadShedding(inner, { lagMs: () => lag, maxLagMs: 250, onShed: () => (shed += 1) });
  t.match(authority.authenticate(token), { kind: 'unavailable', reason: 'overloaded', cause: 'event loop behind' });
  t.equal(inner.asked.length, 0);
  t.equal(shed, 1);
  lag = 250;
  const asking = { priority: 'verified' } as const;
  t.equal(authority.authenticate(token, asking), yes);
  t.equal(inner.asked[0]?.asking, asking);
  t.equal(shed, 1);
});

t.test('what is known is renewed all the same', async t => {
  const inner = scriptedAuthority(() => yes);
  const authority = withLoadShedding(inner, { lagMs: () => 10_000, maxLagMs: 250 });
  t.equal(authority.authenticate(token, { priority: 'refresh' }), yes);
});
