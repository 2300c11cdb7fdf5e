import t from 'tap';
import { type ClaimCheck, type JwtPrecheckOptions, withJwtPrecheck } from '../../src/authentication/jwt-precheck.ts';
import type { ClockState } from '../../src/authentication/server-clock.ts';
import type { AuthResult } from '../../src/authentication/token-authenticator.ts';
import { Token } from '../../src/credential/token.ts';
import type { ClusterJwks } from '../../src/jwks/cluster-jwks.ts';
import { authenticatedAs } from '../fixtures/authenticated-result.ts';
import { stubAuthenticator } from '../fixtures/stub-authenticator.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';

const ISSUER = 'https://kubernetes.default.svc';
const NOW = Date.parse('2025-06-01T12:00:00Z');
const authenticated = authenticatedAs();
const claims = { iss: ISSUER, aud: ['bindcar'], exp: NOW / 1000 + 3600, nbf: NOW / 1000 };

function examine(
  check: ReturnType<ClusterJwks['verify']>,
  options: Partial<JwtPrecheckOptions> & Partial<ClusterJwks> = {},
  result: AuthResult = authenticated,
) {
  const inner = stubAuthenticator(() => result);
  const violations: ClaimCheck[] = [];
  let refreshed = 0;
  const keys: ClusterJwks = {
    issuer: 'issuer' in options ? options.issuer : ISSUER,
    hasKeys: true,
    verify: () => check,
    confirmedUntil: 1234,
    fetchAgain: options.fetchAgain ?? (() => undefined),
    refresh: () => {
      refreshed += 1;
    },
  };
  const authenticator = withJwtPrecheck(inner, {
    keys,
    audiences: ['bindcar'],
    signatures: true,
    wallClock: () => NOW,
    clock: { state: 'agrees', freshUntil: 5678 },
    onViolation: check => violations.push(check),
    ...options,
  });
  return { authenticator, inner, violations, refreshed: () => refreshed };
}

const rejection = (cause: string, keepUntil?: number) => ({
  kind: 'rejected',
  reason: 'token_rejected',
  detail: `[invalid bearer token, ${cause}]`,
  ...(keepUntil !== undefined && { keepUntil }),
});

t.test('a token with a valid signature is reviewed with verified priority and its abort signal', async t => {
  const { authenticator, inner } = examine('valid');
  const { signal } = new AbortController();
  t.equal(await authenticator.authenticate(unsignedJwt(claims), { signal }), authenticated);
  t.strictSame(inner.reviews[0]?.context, { signal, priority: 'verified' });
});

t.test('an asynchronous signature check is awaited', async t => {
  const valid = examine(Promise.resolve('valid'));
  t.equal(await valid.authenticator.authenticate(unsignedJwt(claims)), authenticated);
  t.equal(valid.inner.reviews[0]?.context?.priority, 'verified');
  const invalid = examine(Promise.resolve('invalid'));
  t.match(await invalid.authenticator.authenticate(unsignedJwt(claims)), { kind: 'rejected' });
  t.equal(invalid.inner.reviews.length, 0);
});

t.test('a token with an unverifiable signature is reviewed with unverified priority', async t => {
  const { authenticator, inner } = examine('unknown');
  t.equal(await authenticator.authenticate(unsignedJwt(claims)), authenticated);
  t.strictSame(inner.reviews[0]?.context, {});
});

t.test('an invalid signature is rejected with the API server’s text and without a review', async t => {
  const { authenticator, inner, violations } = examine('invalid');
  const cause = 'go-jose/go-jose: error in cryptographic primitive';
  t.strictSame(
    await authenticator.authenticate(unsignedJwt(claims)),
    rejection(cause, 1234),
    'cacheable as long as the JWKS confirms it',
  );
  t.equal(inner.reviews.length, 0);
  t.strictSame(violations, ['signature']);
});

t.test('each invalid signature returns a new rejection object, so that the failure limit counts it', async t => {
  const { authenticator } = examine('invalid');
  t.not(authenticator.authenticate(unsignedJwt(claims)), authenticator.authenticate(unsignedJwt(claims)));
});

t.test('a valid signature is reported, and no other token', async t => {
  const verified: Token[] = [];
  const onVerified = (token: Token) => verified.push(token);
  await examine('invalid', { onVerified }).authenticator.authenticate(unsignedJwt(claims));
  await examine('unknown', { onVerified }).authenticator.authenticate(unsignedJwt(claims));
  await examine('valid', { onVerified }).authenticator.authenticate(unsignedJwt({ ...claims, aud: ['x'] }));
  await examine('valid', { onVerified }).authenticator.authenticate(new Token('opaque'));
  await examine('valid', { onVerified, signatures: false }).authenticator.authenticate(unsignedJwt(claims));
  t.equal(verified.length, 0);
  const tokens = [unsignedJwt(claims), unsignedJwt(claims)] as const;
  await examine('valid', { onVerified }).authenticator.authenticate(tokens[0]);
  await examine(Promise.resolve('valid'), { onVerified }).authenticator.authenticate(tokens[1]);
  t.ok(verified.length === 2 && verified.every((token, at) => token === tokens[at]));
});

t.test('exp and nbf are rejected past the API server’s leeway plus 30 s for clock skew', async t => {
  const seconds = NOW / 1000;
  const { authenticator, inner, violations } = examine('valid');
  for (const tolerated of [
    { ...claims, exp: seconds - 90 },
    { ...claims, nbf: seconds + 90 },
  ]) {
    t.equal(await authenticator.authenticate(unsignedJwt(tolerated)), authenticated);
  }
  t.equal(inner.reviews.length, 2);
  t.strictSame(
    authenticator.authenticate(unsignedJwt({ ...claims, exp: seconds - 91 })),
    rejection('service account token has expired', 5678),
  );
  t.strictSame(
    authenticator.authenticate(unsignedJwt({ ...claims, nbf: seconds + 91 })),
    rejection('service account token is not valid yet', 5678),
  );
  t.equal(inner.reviews.length, 2);
  t.strictSame(violations, ['expired', 'not_yet_valid']);
});

const expired = { ...claims, exp: NOW / 1000 - 91 };
const notYetValid = { ...claims, nbf: NOW / 1000 + 91 };

t.test('while the clocks differ, only signatures and audiences are checked locally, not times', async t => {
  const differ = { clock: { state: 'differs', freshUntil: 0 } } as const;
  for (const claims of [expired, notYetValid]) {
    const verified = examine('valid', differ);
    t.equal(await verified.authenticator.authenticate(unsignedJwt(claims)), authenticated);
    t.equal(verified.inner.reviews[0]?.context?.priority, 'verified');
    const badSignature = examine('invalid', differ);
    t.match(await badSignature.authenticator.authenticate(unsignedJwt(claims)), { kind: 'rejected' });
    t.strictSame(badSignature.violations, ['signature']);
    const badAudience = examine('valid', differ);
    t.match(badAudience.authenticator.authenticate(unsignedJwt({ ...claims, aud: ['x'] })), { kind: 'rejected' });
    t.strictSame(badAudience.violations, ['audience']);
    const unchecked = examine('valid', { ...differ, signatures: false });
    t.equal(await unchecked.authenticator.authenticate(unsignedJwt(claims)), authenticated);
  }
});

t.test('the clocks are compared before exp or nbf is rejected', async t => {
  for (const [comparedState, reviews] of [
    ['agrees', 0],
    ['differs', 1],
    ['unknown', 1],
  ] as const) {
    let state: ClockState = 'unknown';
    let fetches = 0;
    const { authenticator, inner, violations } = examine('valid', {
      clock: {
        get state() {
          return state;
        },
        freshUntil: 5678,
      },
      async fetchAgain() {
        fetches += 1;
        state = comparedState;
      },
    });
    const result = await authenticator.authenticate(unsignedJwt(expired));
    t.equal(inner.reviews.length, reviews, comparedState);
    t.equal(fetches, 1);
    t.strictSame(violations, reviews === 0 ? ['expired'] : []);
    t.match(result, reviews === 0 ? { kind: 'rejected', keepUntil: 5678 } : authenticated);
    await authenticator.authenticate(unsignedJwt(claims));
    t.equal(fetches, 1, 'a token within its times needs no comparison');
  }
});

t.test('a token without a configured audience is rejected, and the text has both audience lists', async t => {
  const { authenticator, inner, violations } = examine('valid', { audiences: ['bindcar', 'x y'] });
  t.strictSame(
    authenticator.authenticate(unsignedJwt({ ...claims, aud: ['a', 'b"c'] })),
    rejection('token audiences ["a" "b\\"c"] is invalid for the target audiences ["bindcar" "x y"]'),
  );
  t.strictSame(violations, ['audience']);
  t.equal(inner.reviews.length, 0);
  t.equal(
    await authenticator.authenticate(unsignedJwt({ ...claims, aud: ['other', 'x y'] })),
    authenticated,
    'one matching audience is enough',
  );
  t.equal(
    await authenticator.authenticate(unsignedJwt({ ...claims, aud: undefined })),
    authenticated,
    'a token without aud is reviewed',
  );
  t.equal(
    await authenticator.authenticate(unsignedJwt({ ...claims, aud: [] })),
    authenticated,
    'a token with an empty aud is reviewed',
  );
});

t.test('audiences are not checked locally if none are configured', async t => {
  const { authenticator } = examine('valid', { audiences: [] });
  t.equal(await authenticator.authenticate(unsignedJwt({ ...claims, aud: ['whatever'] })), authenticated);
});

t.test('the text of a rejection is one line of at most 512 characters and contains no token', async t => {
  const { authenticator } = examine('valid');
  const jwt = `eyJ${'a'.repeat(30)}.eyJ${'b'.repeat(30)}.ccc`;
  const result = authenticator.authenticate(unsignedJwt({ ...claims, aud: ['line\nbreak', jwt, 'x'.repeat(9000)] }));
  t.match(result, { kind: 'rejected' });
  const { detail } = result as { detail: string };
  t.ok(detail.length <= 512);
  t.notMatch(detail, /eyJa|\n/);
});

t.test('opaque tokens and JWTs of another or unknown issuer are reviewed without local checks', async t => {
  const invalid = { ...claims, exp: 1, aud: ['wrong'] };
  for (const [token, issuer] of [
    [unsignedJwt({ ...invalid, iss: 'https://elsewhere' }), ISSUER],
    [unsignedJwt({ ...invalid, iss: undefined }), ISSUER],
    [new Token('opaque'), ISSUER],
    [unsignedJwt({ ...invalid, iss: undefined }), undefined],
    [unsignedJwt(invalid), undefined],
  ] as const) {
    const { authenticator, inner, refreshed } = examine('invalid', { issuer });
    t.equal(await authenticator.authenticate(token), authenticated);
    t.strictSame(inner.reviews[0]?.context, {});
    t.equal(refreshed(), 1, 'the JWKS is refreshed');
  }
});

t.test('without signature checks, claims are checked and the priority stays unverified', async t => {
  const { authenticator, inner, violations } = examine('invalid', { signatures: false });
  t.equal(await authenticator.authenticate(unsignedJwt(claims)), authenticated);
  t.strictSame(inner.reviews[0]?.context, {});
  t.match(authenticator.authenticate(unsignedJwt({ ...claims, exp: 1 })), { kind: 'rejected' });
  t.strictSame(violations, ['expired']);
});

t.test('a cache refresh is reviewed without local checks', async t => {
  const { authenticator, inner } = examine('invalid');
  const context = { priority: 'refresh' } as const;
  t.equal(await authenticator.authenticate(unsignedJwt({ ...claims, exp: 1 }), context), authenticated);
  t.equal(inner.reviews[0]?.context, context);
});

t.test('the JWT pre-check uses the real time by default and works without onViolation and onVerified', async t => {
  const keys: ClusterJwks = {
    issuer: ISSUER,
    hasKeys: true,
    confirmedUntil: 0,
    verify: () => 'invalid',
    refresh() {},
    fetchAgain: () => undefined,
  };
  const clock = { state: 'agrees', freshUntil: 0 } as const;
  const authenticator = withJwtPrecheck(
    stubAuthenticator(() => authenticated),
    { keys, clock, audiences: [], signatures: false },
  );
  t.match(authenticator.authenticate(unsignedJwt({ iss: ISSUER, exp: Date.now() / 1000 - 3600 })), {
    kind: 'rejected',
  });
  t.equal(await authenticator.authenticate(unsignedJwt({ iss: ISSUER, exp: Date.now() / 1000 + 3600 })), authenticated);
});
