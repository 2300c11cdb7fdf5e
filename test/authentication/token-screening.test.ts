import t from 'tap';
import type { Rejected } from '../../src/authentication/token-authenticator.ts';
import { MAX_TOKEN_LENGTH, type ScreeningCheck, withTokenScreening } from '../../src/authentication/token-screening.ts';
import { Token } from '../../src/credential/token.ts';
import { scriptedAuthority } from '../fixtures/stub-authenticator.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';
import { acceptedAs } from '../fixtures/verdicts.ts';

const REFUSED: Rejected = { kind: 'rejected', reason: 'token_rejected', detail: 'invalid bearer token' };
const OPAQUE = new Token('an-opaque-token');
const yes = acceptedAs();

function screened(opaqueTokens: 'ask' | 'refuse') {
  const inner = scriptedAuthority(() => yes);
  const refusals: ScreeningCheck[] = [];
  const authority = withTokenScreening(inner, { opaqueTokens, onRefusal: check => refusals.push(check) });
  return { inner, refusals, authority };
}

t.test('a token of the greatest length is asked about, one character more is refused unasked', async t => {
  const { inner, refusals, authority } = screened('ask');
  t.equal(authority.authenticate(new Token('x'.repeat(MAX_TOKEN_LENGTH))), yes);
  t.equal(inner.asked.length, 1);
  t.strictSame(authority.authenticate(new Token('x'.repeat(MAX_TOKEN_LENGTH + 1))), REFUSED);
  t.equal(inner.asked.length, 1);
  t.strictSame(refusals, ['length']);
});

t.test('a token of 100 KB is refused unasked, whatever it looks like', async t => {
  const { inner, authority } = screened('ask');
  t.strictSame(authority.authenticate(unsignedJwt({ padding: 'x'.repeat(100_000) })), REFUSED);
  t.equal(inner.asked.length, 0);
});

t.test('a token that is no JWT is asked about, unless such tokens are refused', async t => {
  const asking = screened('ask');
  t.equal(asking.authority.authenticate(OPAQUE), yes);
  t.strictSame(asking.refusals, []);

  const refusing = screened('refuse');
  t.strictSame(refusing.authority.authenticate(OPAQUE), REFUSED);
  t.equal(refusing.inner.asked.length, 0);
  t.strictSame(refusing.refusals, ['opaque']);
});

t.test('a JWT is asked about in either case, with its signal, and its result is handed on', async t => {
  for (const opaqueTokens of ['ask', 'refuse'] as const) {
    const { inner, refusals, authority } = screened(opaqueTokens);
    const token = unsignedJwt({ sub: 'somebody' });
    const { signal } = new AbortController();
    t.equal(authority.authenticate(token, { signal }), yes);
    t.equal(inner.asked[0]?.token, token);
    t.equal(inner.asked[0]?.signal, signal);
    t.strictSame(refusals, []);
  }
});
