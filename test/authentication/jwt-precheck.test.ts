import t from 'tap';
import { type ClaimCheck, type JwtPrecheckOptions, withJwtPrecheck } from '../../src/authentication/jwt-precheck.ts';
import type { ClockState } from '../../src/authentication/server-clock.ts';
import type { AuthResult } from '../../src/authentication/token-authenticator.ts';
import { Token } from '../../src/credential/token.ts';
import type { ClusterJwks } from '../../src/jwks/cluster-jwks.ts';
import { scriptedAuthority } from '../fixtures/stub-authenticator.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';
import { acceptedAs } from '../fixtures/verdicts.ts';

const ISSUER = 'https://kubernetes.default.svc';
const NOW = Date.parse('2025-06-01T12:00:00Z');
const yes = acceptedAs();
const good = { iss: ISSUER, aud: ['bindcar'], exp: NOW / 1000 + 3600, nbf: NOW / 1000 };

const claims = good;

function examine(
  check: ReturnType<ClusterJwks['verify']>,
  options: Partial<JwtPrecheckOptions> & Partial<ClusterJwks> = {},
  verdict: AuthResult = yes,
) {
  const inner = scriptedAuthority(() => verdict);
  const refusals: ClaimCheck[] = [];
  let refreshed = 0;
  const keys: ClusterJwks = {
    issuer: 'issuer' in options ? options.issuer : ISSUER,
    held: true,
    verify: () => check,
    confirmedUntil: 1234,
    fetchAgain: options.fetchAgain ?? (() => undefined),
    refresh: () => {
      refreshed += 1;
    },
  };
  const authority = withJwtPrecheck(inner, {
    ...{ keys, audiences: ['bindcar'], signatures: true, wallClock: () => NOW },
    clock: { state: 'agrees', freshUntil: 5678 },
    onRefusal: refusal => refusals.push(refusal),
    ...options,
  });
  return { authority, inner, refusals, refreshed: () => refreshed };
}

const refusal = (cause: string, keepUntil?: number) => ({
  ...{ kind: 'rejected', reason: 'token_rejected', detail: `[invalid bearer token, ${cause}]` },
  ...(keepUntil !== undefined && { keepUntil }),
});

t.test('a good signature goes in the first priority, with all else that was said', async t => {
  const { authority, inner } = examine('good');
  const { signal } = new AbortController();
  t.equal(await authority.authenticate(unsignedJwt(good), { signal }), yes);
  t.strictSame(inner.asked[0]?.asking, { signal, priority: 'verified' });
});

t.test('a signature that takes long to check is waited for', async t => {
  const good = examine(Promise.resolve('good'));
  t.equal(await good.authority.authenticate(unsignedJwt(claims)), yes);
  t.equal(good.inner.asked[0]?.asking?.priority, 'verified');
  const bad = examine(Promise.resolve('bad'));
  t.match(await bad.authority.authenticate(unsignedJwt(claims)), { kind: 'rejected' });
  t.equal(bad.inner.asked.length, 0);
});

t.test('a signature that cannot be judged is asked about in the other priority', async t => {
  const { authority, inner } = examine('unknown');
  t.equal(await authority.authenticate(unsignedJwt(good)), yes);
  t.strictSame(inner.asked[0]?.asking, {});
});

t.test('a bad signature is refused with the API server’s text, and nobody is asked', async t => {
  const { authority, inner, refusals } = examine('bad');
  const cause = 'go-jose/go-jose: error in cryptographic primitive';
  t.strictSame(
    await authority.authenticate(unsignedJwt(good)),
    refusal(cause, 1234),
    'and kept as long as the keys confirm it',
  );
  t.equal(inner.asked.length, 0);
  t.strictSame(refusals, ['signature']);
});

t.test('each bad signature is a refusal of its own, so that the failure limit counts it', async t => {
  const { authority } = examine('bad');
  t.not(authority.authenticate(unsignedJwt(good)), authority.authenticate(unsignedJwt(good)));
});

t.test('a valid signature is reported, and no other token', async t => {
  let verified = 0;
  const onVerified = () => {
    verified += 1;
  };
  await examine('bad', { onVerified }).authority.authenticate(unsignedJwt(claims));
  await examine('unknown', { onVerified }).authority.authenticate(unsignedJwt(claims));
  await examine('good', { onVerified }).authority.authenticate(unsignedJwt({ ...claims, aud: ['x'] }));
  await examine('good', { onVerified }).authority.authenticate(new Token('opaque'));
  await examine('good', { onVerified, signatures: false }).authority.authenticate(unsignedJwt(claims));
  t.equal(verified, 0);
  await examine('good', { onVerified }).authority.authenticate(unsignedJwt(claims));
  await examine(Promise.resolve('good'), { onVerified }).authority.authenticate(unsignedJwt(claims));
  t.equal(verified, 2);
});

t.test('what has ended or not begun is refused past the API server’s leeway and half a minute for clocks', async t => {
  const seconds = NOW / 1000;
  const { authority, inner, refusals } = examine('good');
  for (const claims of [
    { ...good, exp: seconds - 90 },
    { ...good, nbf: seconds + 90 },
  ]) {
    t.equal(await authority.authenticate(unsignedJwt(claims)), yes);
  }
  t.equal(inner.asked.length, 2);
  t.strictSame(
    authority.authenticate(unsignedJwt({ ...good, exp: seconds - 91 })),
    refusal('service account token has expired', 5678),
  );
  t.strictSame(
    authority.authenticate(unsignedJwt({ ...good, nbf: seconds + 91 })),
    refusal('service account token is not valid yet', 5678),
  );
  t.equal(inner.asked.length, 2);
  t.strictSame(refusals, ['expired', 'not_yet_valid']);
});

const ended = { ...good, exp: NOW / 1000 - 91 };
const early = { ...good, nbf: NOW / 1000 + 91 };

t.test('while the clocks differ, the API server is asked about times, and signatures and audiences count', async t => {
  const differ = { clock: { state: 'differs', freshUntil: 0 } } as const;
  for (const claims of [ended, early]) {
    const verified = examine('good', differ);
    t.equal(await verified.authority.authenticate(unsignedJwt(claims)), yes);
    t.equal(verified.inner.asked[0]?.asking?.priority, 'verified');
    const forged = examine('bad', differ);
    t.match(await forged.authority.authenticate(unsignedJwt(claims)), { kind: 'rejected' });
    t.strictSame(forged.refusals, ['signature']);
    const foreign = examine('good', differ);
    t.match(foreign.authority.authenticate(unsignedJwt({ ...claims, aud: ['x'] })), { kind: 'rejected' });
    t.strictSame(foreign.refusals, ['audience']);
    const unsigned = examine('good', { ...differ, signatures: false });
    t.equal(await unsigned.authority.authenticate(unsignedJwt(claims)), yes);
  }
});

t.test('before a time is rejected, the clocks are compared', async t => {
  for (const [learned, asked] of [
    ['agrees', 0],
    ['differs', 1],
    ['unknown', 1],
  ] as const) {
    let state: ClockState = 'unknown';
    let fetches = 0;
    const { authority, inner, refusals } = examine('good', {
      clock: {
        get state() {
          return state;
        },
        freshUntil: 5678,
      },
      async fetchAgain() {
        fetches += 1;
        state = learned;
      },
    });
    const verdict = await authority.authenticate(unsignedJwt(ended));
    t.equal(inner.asked.length, asked, learned);
    t.equal(fetches, 1);
    t.strictSame(refusals, asked === 0 ? ['expired'] : []);
    t.match(verdict, asked === 0 ? { kind: 'rejected', keepUntil: 5678 } : yes);
    await authority.authenticate(unsignedJwt(good));
    t.equal(fetches, 1, 'a time that is right needs no comparison');
  }
});

t.test('an audience that is not asked for is refused with both lists', async t => {
  const { authority, inner, refusals } = examine('good', { audiences: ['bindcar', 'x y'] });
  t.strictSame(
    authority.authenticate(unsignedJwt({ ...good, aud: ['a', 'b"c'] })),
    refusal('token audiences ["a" "b\\"c"] is invalid for the target audiences ["bindcar" "x y"]'),
  );
  t.strictSame(refusals, ['audience']);
  t.equal(inner.asked.length, 0);
  t.equal(await authority.authenticate(unsignedJwt({ ...good, aud: ['other', 'x y'] })), yes, 'one is enough');
  t.equal(
    await authority.authenticate(unsignedJwt({ ...good, aud: undefined })),
    yes,
    'none at all is for others to judge',
  );
  t.equal(await authority.authenticate(unsignedJwt({ ...good, aud: [] })), yes, 'and an empty list is none');
});

t.test('where no audience is asked for, the API server’s own count, which are not known here', async t => {
  const { authority } = examine('good', { audiences: [] });
  t.equal(await authority.authenticate(unsignedJwt({ ...good, aud: ['whatever'] })), yes);
});

t.test('a refusal’s text is one bounded line without a token, whatever the token says', async t => {
  const { authority } = examine('good');
  const jwt = `eyJ${'a'.repeat(30)}.eyJ${'b'.repeat(30)}.ccc`;
  const verdict = authority.authenticate(unsignedJwt({ ...good, aud: ['line\nbreak', jwt, 'x'.repeat(9000)] }));
  t.match(verdict, { kind: 'rejected' });
  const { detail } = verdict as { detail: string };
  t.ok(detail.length <= 512);
  t.notMatch(detail, /eyJa|\n/);
});

t.test('what is not the cluster’s own is not judged here', async t => {
  const old = { ...good, exp: 1, aud: ['wrong'] };
  for (const [token, issuer] of [
    [unsignedJwt({ ...old, iss: 'https://elsewhere' }), ISSUER],
    [unsignedJwt({ ...old, iss: undefined }), ISSUER],
    [new Token('opaque'), ISSUER],
    [unsignedJwt({ ...old, iss: undefined }), undefined],
    [unsignedJwt(old), undefined],
  ] as const) {
    const { authority, inner, refreshed } = examine('bad', { issuer });
    t.equal(await authority.authenticate(token), yes);
    t.strictSame(inner.asked[0]?.asking, {});
    t.equal(refreshed(), 1, 'what is not known may be by now');
  }
});

t.test('claims alone choose no priority', async t => {
  const { authority, inner, refusals } = examine('bad', { signatures: false });
  t.equal(await authority.authenticate(unsignedJwt(good)), yes);
  t.strictSame(inner.asked[0]?.asking, {});
  t.match(authority.authenticate(unsignedJwt({ ...good, exp: 1 })), { kind: 'rejected' });
  t.strictSame(refusals, ['expired']);
});

t.test('a renewal is for the API server alone', async t => {
  const { authority, inner } = examine('bad');
  const asking = { priority: 'refresh' } as const;
  t.equal(await authority.authenticate(unsignedJwt({ ...good, exp: 1 }), asking), yes);
  t.equal(inner.asked[0]?.asking, asking);
});

t.test('the real time is taken, and nobody has to be told', async t => {
  const keys: ClusterJwks = {
    ...{ issuer: ISSUER, held: true, confirmedUntil: 0 },
    verify: () => 'bad',
    refresh() {},
    fetchAgain: () => undefined,
  };
  const clock = { state: 'agrees', freshUntil: 0 } as const;
  const authority = withJwtPrecheck(
    scriptedAuthority(() => yes),
    { keys, clock, audiences: [], signatures: false },
  );
  t.match(authority.authenticate(unsignedJwt({ iss: ISSUER, exp: Date.now() / 1000 - 3600 })), { kind: 'rejected' });
  t.equal(await authority.authenticate(unsignedJwt({ iss: ISSUER, exp: Date.now() / 1000 + 3600 })), yes);
});
