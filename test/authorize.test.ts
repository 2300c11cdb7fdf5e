import t from 'tap';
import type { AuthResult, TokenAuthenticator } from '../src/authentication/token-authenticator.ts';
import { authorizeFormatOnly, createAuthorizer } from '../src/authorize.ts';
import { parseAuthorization } from '../src/credential/authorization-header.ts';
import { revealToken } from '../src/credential/token.ts';
import { OTHER_SCHEME } from '../src/decision/decision.ts';
import type { Policy } from '../src/policy/policy.ts';
import { MY_APP } from './fixtures/identities.ts';
import { stubAuthenticator } from './fixtures/stub-authenticator.ts';

const ALLOW_ALL: Policy = { allowedNamespaces: undefined, allowedServiceAccounts: undefined };
const ONLY_NAMESPACE_CI: Policy = { ...ALLOW_ALL, allowedNamespaces: new Set(['ci']) };

const OUTAGE: AuthResult = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 3,
};

/** Creates an authenticator that always returns `result` and records the tokens it received. */
function authenticatorOf(result: AuthResult | Promise<AuthResult>): TokenAuthenticator & { readonly tokens: string[] } {
  const tokens: string[] = [];
  return {
    tokens,
    authenticate(token) {
      tokens.push(revealToken(token));
      return result;
    },
  };
}

const credential = parseAuthorization('Bearer a-token');

t.test('a credential without a well-formed token is denied without authentication', async t => {
  const authenticator = authenticatorOf({ kind: 'authenticated', identity: MY_APP });
  const authorize = createAuthorizer(authenticator, ALLOW_ALL);
  const expected = {
    absent: ['credentials_missing', ''],
    other_scheme: ['credentials_malformed', OTHER_SCHEME],
    malformed: ['credentials_malformed', ''],
    empty: ['token_empty', ''],
  } as const;
  for (const [kind, [reason, detail]] of Object.entries(expected)) {
    for (const decide of [authorize, authorizeFormatOnly]) {
      t.strictSame(decide({ kind } as { kind: keyof typeof expected }), { kind: 'deny', reason, detail });
    }
  }
  t.strictSame(authenticator.tokens, []);
});

t.test('an authenticated token that the policy allows is allowed with its identity', async t => {
  const authenticator = authenticatorOf({ kind: 'authenticated', identity: MY_APP });
  const decision = createAuthorizer(authenticator, ALLOW_ALL)(credential);
  t.strictSame(decision, { kind: 'allow', identity: MY_APP });
  t.strictSame(authenticator.tokens, ['a-token']);
});

t.test('a stale result is allowed with its staleness in whole seconds, and the policy still applies', async t => {
  const stale: AuthResult = { kind: 'authenticated', identity: MY_APP, staleForMs: 2999 };
  t.strictSame(createAuthorizer(authenticatorOf(stale), ALLOW_ALL)(credential), {
    kind: 'allow',
    identity: MY_APP,
    staleSeconds: 2,
  });
  t.match(createAuthorizer(authenticatorOf(stale), ONLY_NAMESPACE_CI)(credential), {
    kind: 'deny',
    reason: 'namespace_denied',
  });
});

t.test('an authenticated token that the policy denies is denied', async t => {
  const decision = createAuthorizer(
    authenticatorOf({ kind: 'authenticated', identity: MY_APP }),
    ONLY_NAMESPACE_CI,
  )(credential);
  t.match(decision, { kind: 'deny', reason: 'namespace_denied', detail: 'default', username: MY_APP.username });
});

t.test('a rejected token is denied with the reason of the rejection', async t => {
  for (const reason of ['token_rejected', 'audience_mismatch', 'user_missing'] as const) {
    const decision = createAuthorizer(
      authenticatorOf({ kind: 'rejected', reason, detail: 'expired' }),
      ALLOW_ALL,
    )(credential);
    t.strictSame(decision, { kind: 'deny', reason, detail: 'expired' });
  }
});

t.test('an unavailable result stays unavailable under any policy', async t => {
  for (const policy of [ALLOW_ALL, ONLY_NAMESPACE_CI])
    t.equal(createAuthorizer(authenticatorOf(OUTAGE), policy)(credential), OUTAGE);
});

t.test('a synchronous result gives a synchronous decision', async t => {
  t.notOk(createAuthorizer(authenticatorOf(OUTAGE), ALLOW_ALL)(credential) instanceof Promise);
  t.notOk(
    createAuthorizer(authenticatorOf({ kind: 'authenticated', identity: MY_APP }), ALLOW_ALL)(credential) instanceof
      Promise,
  );
});

t.test('an asynchronous result gives the same decisions as a synchronous one', async t => {
  const decideLater = (result: AuthResult, policy: Policy) =>
    createAuthorizer(authenticatorOf(Promise.resolve(result)), policy)(credential);
  const authenticated: AuthResult = { kind: 'authenticated', identity: MY_APP };
  t.ok(decideLater(authenticated, ALLOW_ALL) instanceof Promise);
  t.strictSame(await decideLater(authenticated, ALLOW_ALL), { kind: 'allow', identity: MY_APP });
  t.match(await decideLater(authenticated, ONLY_NAMESPACE_CI), { kind: 'deny', reason: 'namespace_denied' });
  t.equal(await decideLater(OUTAGE, ALLOW_ALL), OUTAGE);
});

t.test('a malformed credential is denied before the token is authenticated', async t => {
  const authenticator = authenticatorOf({ kind: 'authenticated', identity: MY_APP });
  const authorize = createAuthorizer(authenticator, ALLOW_ALL);
  t.match(authorize(parseAuthorization('Bearer not well-formed')), { reason: 'credentials_malformed' });
  t.strictSame(authenticator.tokens, []);
  t.match(authorize(credential), { kind: 'allow' });
  t.strictSame(authenticator.tokens, ['a-token']);
});

t.test('format-only mode allows every well-formed token, without an identity', async t => {
  t.strictSame(authorizeFormatOnly(credential), { kind: 'allow', identity: undefined });
});

t.test('the client address is passed to the authenticator, and a denial keeps the retry time', t => {
  const rejection: AuthResult = { kind: 'rejected', reason: 'too_many_failures', detail: '', retryAfterSeconds: 7 };
  const authenticator = stubAuthenticator(() => rejection);
  t.strictSame(createAuthorizer(authenticator, ALLOW_ALL)(credential, { client: '192.0.2.1' }), {
    kind: 'deny',
    reason: 'too_many_failures',
    detail: '',
    retryAfterSeconds: 7,
  });
  createAuthorizer(authenticator, ALLOW_ALL)(credential);
  t.strictSame(
    authenticator.reviews.map(({ context }) => context),
    [{ client: '192.0.2.1' }, undefined],
  );
  t.end();
});
