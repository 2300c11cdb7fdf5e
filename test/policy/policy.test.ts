import t from 'tap';
import { parseServiceAccount } from '../../src/identity/identity.ts';
import { createPolicy, evaluatePolicy, type Policy } from '../../src/policy/policy.ts';
import { EMPTY_IDENTITY } from '../fixtures/identities.ts';

const identity = (username: string) => ({ ...EMPTY_IDENTITY, username, serviceAccount: parseServiceAccount(username) });

const policy = (namespaces?: readonly string[], serviceAccounts?: readonly string[]): Policy => ({
  allowedNamespaces: namespaces && new Set(namespaces),
  allowedServiceAccounts: serviceAccounts && new Set(serviceAccounts),
});

const MY_APP = 'system:serviceaccount:default:my-app';
const OTHER_APP = 'system:serviceaccount:default:other';
const OTHER_NAMESPACE = 'system:serviceaccount:ci:my-app';

/** Returns the reason of the denial, or `allowed`. */
const outcome = (username: string, ...lists: Parameters<typeof policy>): string =>
  evaluatePolicy(identity(username), policy(...lists))?.reason ?? 'allowed';

t.test('without allowlists every user is allowed, ServiceAccount or not', async t => {
  for (const username of [MY_APP, 'alice', 'system:node:worker-1']) t.equal(outcome(username), 'allowed', username);
});

t.test('a namespace allowlist allows only its namespaces', async t => {
  t.equal(outcome(MY_APP, ['default']), 'allowed');
  t.equal(outcome(OTHER_APP, ['ci', 'default']), 'allowed');
  t.equal(outcome(OTHER_NAMESPACE, ['default']), 'namespace_denied');
  t.equal(outcome(MY_APP, ['default2', 'defaul', 'my-app', MY_APP]), 'namespace_denied', 'no partial match');
});

t.test('a ServiceAccount allowlist allows only its ServiceAccounts', async t => {
  t.equal(outcome(MY_APP, undefined, [OTHER_APP, MY_APP]), 'allowed');
  t.equal(outcome(OTHER_APP, undefined, [MY_APP]), 'service_account_denied');
  t.equal(
    outcome(OTHER_NAMESPACE, undefined, [MY_APP]),
    'service_account_denied',
    'the same name in another namespace',
  );
});

t.test('with both allowlists both must match, and the namespace is checked first', async t => {
  t.equal(outcome(MY_APP, ['default'], [MY_APP]), 'allowed');
  t.equal(outcome(OTHER_APP, ['default'], [MY_APP]), 'service_account_denied');
  t.equal(outcome(OTHER_NAMESPACE, ['default'], [OTHER_NAMESPACE]), 'namespace_denied');
  t.equal(outcome(OTHER_NAMESPACE, ['default'], [MY_APP]), 'namespace_denied');
});

t.test('a user that is not a ServiceAccount is denied by any allowlist, even if listed by name', async t => {
  for (const username of ['alice', 'default', 'system:serviceaccount:default:', 'system:serviceaccount:default:A']) {
    t.equal(outcome(username, ['default', 'alice', '']), 'namespace_denied', username);
    t.equal(outcome(username, undefined, [username]), 'service_account_denied', username);
  }
});

t.test('an empty allowlist denies every user', async t => {
  t.equal(outcome(MY_APP, []), 'namespace_denied');
  t.equal(outcome(MY_APP, undefined, []), 'service_account_denied');
});

t.test('a denial contains the denied value, and the username and identity for the log', async t => {
  t.strictSame(evaluatePolicy(identity(OTHER_NAMESPACE), policy(['default'])), {
    kind: 'deny',
    reason: 'namespace_denied',
    detail: 'ci',
    username: OTHER_NAMESPACE,
    identity: identity(OTHER_NAMESPACE),
  });
  t.strictSame(evaluatePolicy(identity(OTHER_APP), policy(undefined, [MY_APP])), {
    kind: 'deny',
    reason: 'service_account_denied',
    detail: OTHER_APP,
    username: OTHER_APP,
    identity: identity(OTHER_APP),
  });
  t.equal(evaluatePolicy(identity('alice'), policy(['default']))?.detail, 'none (alice)');
});

t.test('the detail and username of a denial are one line of at most 512 printable ASCII characters', async t => {
  const username = `ünï\r\n${'x'.repeat(5000)}`;
  for (const lists of [policy([]), policy(undefined, [])]) {
    const denied = evaluatePolicy(identity(username), lists);
    for (const text of [denied?.detail, denied?.username]) {
      t.match(text, /^[\x20-\x7e]{512}$/);
      t.match(text, '%C3%BCn%C3%AF%0D%0Axxx');
    }
  }
});

t.test('the longest possible ServiceAccount name is not truncated in a denial', async t => {
  const longest = `system:serviceaccount:${'n'.repeat(63)}:${'s'.repeat(253)}`;
  t.equal(evaluatePolicy(identity(longest), policy(undefined, []))?.detail, longest);
});

t.test('a list that is not set allows every identity, and a list that is set becomes a set of names', async t => {
  t.strictSame(createPolicy({ allowedNamespaces: undefined, allowedServiceAccounts: undefined }), {
    allowedNamespaces: undefined,
    allowedServiceAccounts: undefined,
  });
  t.strictSame(createPolicy({ allowedNamespaces: ['apps', 'apps'], allowedServiceAccounts: [] }), {
    allowedNamespaces: new Set(['apps']),
    allowedServiceAccounts: new Set(),
  });
});
