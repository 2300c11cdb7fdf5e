import t from 'tap';
import { unavailable } from '../../src/authentication/token-authenticator.ts';

t.test('an unavailable result has its cause and a retry time of one second', async t => {
  t.strictSame(unavailable('timeout'), {
    kind: 'unavailable',
    reason: 'authority_unavailable',
    cause: 'timeout',
    retryAfterSeconds: 1,
  });
});

t.test('an unavailable result keeps a longer retry time from the API server', async t => {
  t.equal(unavailable('too_many_requests', 7).retryAfterSeconds, 7);
});
