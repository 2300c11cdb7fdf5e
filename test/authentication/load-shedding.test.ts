import t from 'tap';
import { withLoadShedding } from '../../src/authentication/load-shedding.ts';
import { Token } from '../../src/credential/token.ts';
import { authenticatedAs } from '../fixtures/authenticated-result.ts';
import { stubAuthenticator } from '../fixtures/stub-authenticator.ts';

const token = new Token('a-token');
const authenticated = authenticatedAs();

t.test('while the event loop lags, reviews are shed as overloaded', async t => {
  let lag = 251;
  let shed = 0;
  const inner = stubAuthenticator(() => authenticated);
  const authenticator = withLoadShedding(inner, { lagMs: () => lag, onShed: () => (shed += 1) });
  t.match(authenticator.authenticate(token), { kind: 'unavailable', reason: 'overloaded', cause: 'event_loop_lag' });
  t.equal(inner.reviews.length, 0);
  t.equal(shed, 1);
  lag = 250;
  const context = { priority: 'verified' } as const;
  t.equal(authenticator.authenticate(token, context), authenticated);
  t.equal(inner.reviews[0]?.context, context);
  t.equal(shed, 1);
});

t.test('cache refreshes run while the event loop lags', async t => {
  const inner = stubAuthenticator(() => authenticated);
  const authenticator = withLoadShedding(inner, { lagMs: () => 10_000 });
  t.equal(authenticator.authenticate(token, { priority: 'refresh' }), authenticated);
});
