import t from 'tap';
import type { ResultCache } from '../../src/authentication/cache/result-cache.ts';
import { withClientFailureLimit } from '../../src/authentication/client-failure-limit.ts';
import { failureCounter } from '../../src/authentication/failure-counter.ts';
import {
  type AuthResult,
  type Rejected,
  type RequestTrace,
  unavailable,
} from '../../src/authentication/token-authenticator.ts';
import { Token } from '../../src/credential/token.ts';
import { authenticatedAs } from '../fixtures/authenticated-result.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { stubAuthenticator } from '../fixtures/stub-authenticator.ts';

const token = new Token('a-token');
const authenticated = authenticatedAs();
const rejected = (): Rejected => ({ kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' });
const [client, secondClient] = ['192.0.2.1', '192.0.2.2'];
const tooMany = { kind: 'rejected', reason: 'too_many_failures', detail: '', retryAfterSeconds: 60 };

/** Allows two failures a minute. `cached` returns the cached result of every token. */
function limit(review: () => AuthResult, cached?: () => Rejected | typeof authenticated | undefined) {
  const clock = fakeClock();
  const reviews = stubAuthenticator(async () => review());
  const inner: ResultCache = {
    getCached(_token, context) {
      if (context?.trace) context.trace.source = 'cache';
      return cached?.();
    },
    authenticate: (token, context) => cached?.() ?? reviews.authenticate(token, context),
  };
  const failures = failureCounter({ failures: 2, windowMs: 60_000, maxAddresses: 10, now: clock.now });
  return { authenticator: withClientFailureLimit(inner, failures), reviews, clock };
}

t.test('an address past its failure limit gets no reviews until its window ends; other addresses do', async t => {
  const { authenticator, reviews, clock } = limit(rejected);
  for (let attempt = 0; attempt < 2; attempt += 1) await authenticator.authenticate(token, { client });
  t.strictSame(authenticator.authenticate(token, { client }), tooMany);
  t.equal(reviews.reviews.length, 2);
  t.match(await authenticator.authenticate(token, { client: secondClient }), { reason: 'token_rejected' });
  clock.advance(60_000);
  t.match(await authenticator.authenticate(token, { client }), { reason: 'token_rejected' });
  t.equal(reviews.reviews.length, 4);
});

t.test('a cached allow is returned to a client past its failure limit', async t => {
  let cached: typeof authenticated | undefined;
  const { authenticator } = limit(rejected, () => cached);
  for (let attempt = 0; attempt < 2; attempt += 1) await authenticator.authenticate(token, { client });
  cached = authenticated;
  const trace: RequestTrace = { source: 'local' };
  t.equal(authenticator.authenticate(token, { client, trace }), authenticated);
  t.equal(trace.source, 'cache');
});

t.test('an allow does not reset the failure count; outages and cached rejections do not count', async t => {
  let result: AuthResult = rejected();
  const { authenticator, reviews } = limit(() => result);
  await authenticator.authenticate(token, { client });
  for (const uncounted of [authenticated, unavailable('timeout')]) {
    result = uncounted;
    for (let attempt = 0; attempt < 5; attempt += 1)
      t.equal(await authenticator.authenticate(token, { client }), uncounted);
  }
  result = rejected();
  await authenticator.authenticate(token, { client });
  t.strictSame(authenticator.authenticate(token, { client }), tooMany);
  t.equal(reviews.reviews.length, 12);
  const withCachedRejection = limit(rejected, rejected);
  for (let attempt = 0; attempt < 5; attempt += 1) {
    t.match(withCachedRejection.authenticator.authenticate(token, { client }), { reason: 'token_rejected' });
  }
});

t.test('a synchronous rejection counts as a failure like an asynchronous one', async t => {
  const review = () => rejected();
  const failures = failureCounter({ failures: 2, windowMs: 60_000, maxAddresses: 10, now: fakeClock().now });
  const authenticator = withClientFailureLimit({ getCached: () => undefined, authenticate: review }, failures);
  for (let attempt = 0; attempt < 2; attempt += 1)
    t.strictSame(authenticator.authenticate(token, { client }), rejected());
  t.strictSame(authenticator.authenticate(token, { client }), tooMany);
});

t.test('failures without a client address are not counted', async t => {
  const { authenticator, reviews } = limit(rejected);
  for (const context of [undefined, {}, { client: undefined }]) {
    for (let attempt = 0; attempt < 5; attempt += 1) await authenticator.authenticate(token, context);
  }
  t.equal(reviews.reviews.length, 15);
});
