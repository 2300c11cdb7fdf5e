import t from 'tap';
import { unavailable } from '../../src/authentication/token-authenticator.ts';

t.test('an outage says its class, and to come back after a second', async t => {
  t.strictSame(unavailable('timeout'), {
    kind: 'unavailable',
    reason: 'authority_unavailable',
    cause: 'timeout',
    retryAfterSeconds: 1,
  });
});

t.test('an outage says to come back later where the API server asked for that', async t => {
  t.equal(unavailable('too_many_requests', 7).retryAfterSeconds, 7);
});
