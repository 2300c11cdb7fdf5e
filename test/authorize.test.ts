import t from 'tap';
import type { AuthResult, TokenAuthenticator } from '../src/authentication/token-authenticator.ts';
import { authorizeFormatOnly, createAuthorizer } from '../src/authorize.ts';
import { parseAuthorization } from '../src/credential/authorization-header.ts';
import { revealToken } from '../src/credential/token.ts';
import { OTHER_SCHEME } from '../src/decision/decision.ts';
import type { Policy } from '../src/policy/policy.ts';
import { MY_APP } from './fixtures/identities.ts';
import { scriptedAuthority } from './fixtures/stub-authenticator.ts';

const EVERYBODY: Policy = { allowedNamespaces: undefined, allowedServiceAccounts: undefined };
const NAMESPACE_CI: Policy = { ...EVERYBODY, allowedNamespaces: new Set(['ci']) };

const OUTAGE: AuthResult = {
  ...{ kind: 'unavailable', reason: 'authority_unavailable', cause: 'timeout', retryAfterSeconds: 3 },
};

/** An authority that always says the same, and remembers what it was asked. */
function saying(verdict: AuthResult | Promise<AuthResult>): TokenAuthenticator & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    authenticate(token) {
      asked.push(revealToken(token));
      return verdict;
    },
  };
}

const good = parseAuthorization('Bearer a-token');

t.test('what is no token is denied, and nobody is asked', async t => {
  const authority = saying({ kind: 'authenticated', identity: MY_APP });
  const authorize = createAuthorizer(authority, EVERYBODY);
  const expected = {
    absent: ['credentials_missing', ''],
    foreign: ['credentials_malformed', OTHER_SCHEME],
    malformed: ['credentials_malformed', ''],
    empty: ['token_empty', ''],
  } as const;
  for (const [kind, [reason, detail]] of Object.entries(expected)) {
    for (const decide of [authorize, authorizeFormatOnly]) {
      t.strictSame(decide({ kind } as { kind: keyof typeof expected }), { kind: 'deny', reason, detail });
    }
  }
  t.strictSame(authority.asked, []);
});

t.test('an accepted token that the policy lets pass is allowed, with its identity', async t => {
  const authority = saying({ kind: 'authenticated', identity: MY_APP });
  const decision = createAuthorizer(authority, EVERYBODY)(good);
  t.strictSame(decision, { kind: 'allow', identity: MY_APP });
  t.strictSame(authority.asked, ['a-token']);
});

t.test('a result that serves by grace says for how long, in whole seconds, and is judged all the same', async t => {
  const stale: AuthResult = { kind: 'authenticated', identity: MY_APP, staleForMs: 2999 };
  t.strictSame(createAuthorizer(saying(stale), EVERYBODY)(good), { kind: 'allow', identity: MY_APP, staleSeconds: 2 });
  t.match(createAuthorizer(saying(stale), NAMESPACE_CI)(good), { kind: 'deny', reason: 'namespace_denied' });
});

t.test('an accepted token is judged by the policy', async t => {
  const decision = createAuthorizer(saying({ kind: 'authenticated', identity: MY_APP }), NAMESPACE_CI)(good);
  t.match(decision, { kind: 'deny', reason: 'namespace_denied', detail: 'default', username: MY_APP.username });
});

t.test('a refused token is denied for the reason of the refusal', async t => {
  for (const reason of ['token_rejected', 'audience_mismatch', 'user_missing'] as const) {
    const decision = createAuthorizer(saying({ kind: 'rejected', reason, detail: 'why' }), EVERYBODY)(good);
    t.strictSame(decision, { kind: 'deny', reason, detail: 'why' });
  }
});

t.test('an outage stays an outage, whatever the policy', async t => {
  for (const policy of [EVERYBODY, NAMESPACE_CI]) t.equal(createAuthorizer(saying(OUTAGE), policy)(good), OUTAGE);
});

t.test('a result that is known is decided at once, without a promise', async t => {
  t.notOk(createAuthorizer(saying(OUTAGE), EVERYBODY)(good) instanceof Promise);
  t.notOk(createAuthorizer(saying({ kind: 'authenticated', identity: MY_APP }), EVERYBODY)(good) instanceof Promise);
});

t.test('a result that must be waited for is decided likewise', async t => {
  const later = (verdict: AuthResult, policy: Policy) =>
    createAuthorizer(saying(Promise.resolve(verdict)), policy)(good);
  const accepted: AuthResult = { kind: 'authenticated', identity: MY_APP };
  t.ok(later(accepted, EVERYBODY) instanceof Promise);
  t.strictSame(await later(accepted, EVERYBODY), { kind: 'allow', identity: MY_APP });
  t.match(await later(accepted, NAMESPACE_CI), { kind: 'deny', reason: 'namespace_denied' });
  t.equal(await later(OUTAGE, EVERYBODY), OUTAGE);
});

t.test('a malformed credential is denied before the authority is asked', async t => {
  const authority = saying({ kind: 'authenticated', identity: MY_APP });
  const authorize = createAuthorizer(authority, EVERYBODY);
  t.match(authorize(parseAuthorization('Bearer not well-formed')), { reason: 'credentials_malformed' });
  t.strictSame(authority.asked, []);
  t.match(authorize(good), { kind: 'allow' });
  t.strictSame(authority.asked, ['a-token']);
});

t.test('format-only mode lets every well-formed token pass, and says nothing of whose it is', async t => {
  t.strictSame(authorizeFormatOnly(good), { kind: 'allow', identity: undefined });
});

t.test('where a client is told, it goes along, and a refusal keeps when to come back', t => {
  const refusal: AuthResult = { kind: 'rejected', reason: 'too_many_failures', detail: '', retryAfterSeconds: 7 };
  const authority = scriptedAuthority(() => refusal);
  t.strictSame(createAuthorizer(authority, EVERYBODY)(good, { client: '192.0.2.1' }), {
    ...{ kind: 'deny', reason: 'too_many_failures', detail: '', retryAfterSeconds: 7 },
  });
  createAuthorizer(authority, EVERYBODY)(good);
  t.strictSame(
    authority.asked.map(({ asking }) => asking),
    [{ client: '192.0.2.1' }, undefined],
  );
  t.end();
});
