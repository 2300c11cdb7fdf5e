import t from 'tap';
import type { Rejected } from '../../src/authentication/token-authenticator.ts';
import { type ScreeningCheck, withTokenScreening } from '../../src/authentication/token-screening.ts';
import { Token } from '../../src/credential/token.ts';
import { MAX_TOKEN_LENGTH } from '../../src/limits/constants.ts';
import { authenticatedAs } from '../fixtures/authenticated-result.ts';
import { stubAuthenticator } from '../fixtures/stub-authenticator.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';

const REJECTED: Rejected = { kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' };
const OPAQUE = new Token('an-opaque-token');
const authenticated = authenticatedAs();

function screened(opaqueTokens: 'review' | 'reject') {
  const inner = stubAuthenticator(() => authenticated);
  const failedChecks: ScreeningCheck[] = [];
  const authenticator = withTokenScreening(inner, { opaqueTokens, onRejection: check => failedChecks.push(check) });
  return { inner, failedChecks, authenticator };
}

t.test('a token of the maximum length is reviewed, and one character more is rejected without a review', async t => {
  const { inner, failedChecks, authenticator } = screened('review');
  t.equal(authenticator.authenticate(new Token('x'.repeat(MAX_TOKEN_LENGTH))), authenticated);
  t.equal(inner.reviews.length, 1);
  t.strictSame(authenticator.authenticate(new Token('x'.repeat(MAX_TOKEN_LENGTH + 1))), REJECTED);
  t.equal(inner.reviews.length, 1);
  t.strictSame(failedChecks, ['length']);
});

t.test('a JWT of 100 KB is rejected without a review', async t => {
  const { inner, authenticator } = screened('review');
  t.strictSame(authenticator.authenticate(unsignedJwt({ padding: 'x'.repeat(100_000) })), REJECTED);
  t.equal(inner.reviews.length, 0);
});

t.test('an opaque token is reviewed if the settings allow it, and is rejected otherwise', async t => {
  const reviewing = screened('review');
  t.equal(reviewing.authenticator.authenticate(OPAQUE), authenticated);
  t.strictSame(reviewing.failedChecks, []);

  const rejecting = screened('reject');
  t.strictSame(rejecting.authenticator.authenticate(OPAQUE), REJECTED);
  t.equal(rejecting.inner.reviews.length, 0);
  t.strictSame(rejecting.failedChecks, ['opaque']);
});

t.test('a JWT is reviewed with its abort signal under both opaque-token settings', async t => {
  for (const opaqueTokens of ['review', 'reject'] as const) {
    const { inner, failedChecks, authenticator } = screened(opaqueTokens);
    const token = unsignedJwt({ sub: 'jane' });
    const { signal } = new AbortController();
    t.equal(authenticator.authenticate(token, { signal }), authenticated);
    t.equal(inner.reviews[0]?.token, token);
    t.equal(inner.reviews[0]?.signal, signal);
    t.strictSame(failedChecks, []);
  }
});
