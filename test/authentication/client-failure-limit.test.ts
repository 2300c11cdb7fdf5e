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
import { fakeClock } from '../fixtures/clock.ts';
import { scriptedAuthority } from '../fixtures/stub-authenticator.ts';
import { acceptedAs } from '../fixtures/verdicts.ts';

const token = new Token('a-token');
const yes = acceptedAs();
const no = (): Rejected => ({ kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' });
const [client, other] = ['192.0.2.1', '192.0.2.2'];
const tooMany = { kind: 'rejected', reason: 'too_many_failures', detail: '', retryAfterSeconds: 60 };

/** Two failures a minute. `known` is what is at hand for every token. */
function limit(answer: () => AuthResult, known?: () => Rejected | typeof yes | undefined) {
  const clock = fakeClock();
  const reviews = scriptedAuthority(async () => answer());
  const inner: ResultCache = {
    getCached(_token, asking) {
      if (asking?.trail) asking.trail.source = 'cache';
      return known?.();
    },
    authenticate: (one, asking) => known?.() ?? reviews.authenticate(one, asking),
  };
  const failures = failureCounter({ failures: 2, windowMs: 60_000, maxAddresses: 10, now: clock.now });
  return { authority: withClientFailureLimit(inner, failures), reviews, clock };
}

t.test('past the limit nobody is asked for that address, until its window ends; others are asked for', async t => {
  const { authority, reviews, clock } = limit(no);
  for (let attempt = 0; attempt < 2; attempt += 1) await authority.authenticate(token, { client });
  t.strictSame(authority.authenticate(token, { client }), tooMany);
  t.equal(reviews.asked.length, 2);
  t.match(await authority.authenticate(token, { client: other }), { reason: 'token_rejected' });
  clock.advance(60_000);
  t.match(await authority.authenticate(token, { client }), { reason: 'token_rejected' });
  t.equal(reviews.asked.length, 4);
});

t.test('what is known passes also then', async t => {
  let known: typeof yes | undefined;
  const { authority } = limit(no, () => known);
  for (let attempt = 0; attempt < 2; attempt += 1) await authority.authenticate(token, { client });
  known = yes;
  const trail: RequestTrace = { source: 'local' };
  t.equal(authority.authenticate(token, { client, trail }), yes);
  t.equal(trail.source, 'cache');
});

t.test('a yes takes nothing back, and outages and a no at hand do not count', async t => {
  let verdict: AuthResult = no();
  const { authority, reviews } = limit(() => verdict);
  await authority.authenticate(token, { client });
  for (const harmless of [yes, unavailable('timeout')]) {
    verdict = harmless;
    for (let attempt = 0; attempt < 5; attempt += 1) t.equal(await authority.authenticate(token, { client }), harmless);
  }
  verdict = no();
  await authority.authenticate(token, { client });
  t.strictSame(authority.authenticate(token, { client }), tooMany);
  t.equal(reviews.asked.length, 12);
  const known = limit(no, no);
  for (let attempt = 0; attempt < 5; attempt += 1) {
    t.match(known.authority.authenticate(token, { client }), { reason: 'token_rejected' });
  }
});

t.test('a refusal that is told at once counts like one that had to be waited for', async t => {
  const review = () => no();
  const failures = failureCounter({ failures: 2, windowMs: 60_000, maxAddresses: 10, now: fakeClock().now });
  const authority = withClientFailureLimit({ getCached: () => undefined, authenticate: review }, failures);
  for (let attempt = 0; attempt < 2; attempt += 1) t.strictSame(authority.authenticate(token, { client }), no());
  t.strictSame(authority.authenticate(token, { client }), tooMany);
});

t.test('without a client’s address nothing is counted', async t => {
  const { authority, reviews } = limit(no);
  for (const asking of [undefined, {}, { client: undefined }]) {
    for (let attempt = 0; attempt < 5; attempt += 1) await authority.authenticate(token, asking);
  }
  t.equal(reviews.asked.length, 15);
});
