import t from 'tap';
import { parseServiceAccount } from '../../src/identity/identity.ts';
import { createPolicy, evaluatePolicy, type Policy } from '../../src/policy/policy.ts';
import { NOBODY } from '../fixtures/identities.ts';

const identity = (username: string) => ({ ...NOBODY, username, serviceAccount: parseServiceAccount(username) });

const policy = (namespaces?: readonly string[], serviceAccounts?: readonly string[]): Policy => ({
  allowedNamespaces: namespaces && new Set(namespaces),
  allowedServiceAccounts: serviceAccounts && new Set(serviceAccounts),
});

const MY_APP = 'system:serviceaccount:default:my-app';
const OTHER = 'system:serviceaccount:default:other';
const ELSEWHERE = 'system:serviceaccount:ci:my-app';

/** The reason of the denial, or `passes`. */
const judged = (username: string, ...lists: Parameters<typeof policy>): string =>
  evaluatePolicy(identity(username), policy(...lists))?.reason ?? 'passes';

t.test('without lists everybody passes, also who is no ServiceAccount', async t => {
  for (const username of [MY_APP, 'alice', 'system:node:worker-1']) t.equal(judged(username), 'passes', username);
});

t.test('a namespace list lets its namespaces pass and no others', async t => {
  t.equal(judged(MY_APP, ['default']), 'passes');
  t.equal(judged(OTHER, ['ci', 'default']), 'passes');
  t.equal(judged(ELSEWHERE, ['default']), 'namespace_denied');
  t.equal(judged(MY_APP, ['default2', 'defaul', 'my-app', MY_APP]), 'namespace_denied', 'no part and no look-alike');
});

t.test('a ServiceAccount list lets exactly those pass', async t => {
  t.equal(judged(MY_APP, undefined, [OTHER, MY_APP]), 'passes');
  t.equal(judged(OTHER, undefined, [MY_APP]), 'service_account_denied');
  t.equal(judged(ELSEWHERE, undefined, [MY_APP]), 'service_account_denied', 'the same name in another namespace');
});

t.test('with both lists, both must pass, and the namespace is judged first', async t => {
  t.equal(judged(MY_APP, ['default'], [MY_APP]), 'passes');
  t.equal(judged(OTHER, ['default'], [MY_APP]), 'service_account_denied');
  t.equal(judged(ELSEWHERE, ['default'], [ELSEWHERE]), 'namespace_denied');
  t.equal(judged(ELSEWHERE, ['default'], [MY_APP]), 'namespace_denied');
});

t.test('a user that is no ServiceAccount passes no list, whatever it is called', async t => {
  for (const username of ['alice', 'default', 'system:serviceaccount:default:', 'system:serviceaccount:default:A']) {
    t.equal(judged(username, ['default', 'alice', '']), 'namespace_denied', username);
    t.equal(judged(username, undefined, [username]), 'service_account_denied', username);
  }
});

t.test('an empty list lets nobody pass', async t => {
  t.equal(judged(MY_APP, []), 'namespace_denied');
  t.equal(judged(MY_APP, undefined, []), 'service_account_denied');
});

t.test('a denial says what was judged, and who it was for the log', async t => {
  t.strictSame(evaluatePolicy(identity(ELSEWHERE), policy(['default'])), {
    ...{ kind: 'deny', reason: 'namespace_denied', detail: 'ci', username: ELSEWHERE, identity: identity(ELSEWHERE) },
  });
  t.strictSame(evaluatePolicy(identity(OTHER), policy(undefined, [MY_APP])), {
    ...{ kind: 'deny', reason: 'service_account_denied', detail: OTHER, username: OTHER, identity: identity(OTHER) },
  });
  t.equal(evaluatePolicy(identity('alice'), policy(['default']))?.detail, 'none (alice)');
});

t.test('a denial’s detail and username are one bounded line of printable ASCII each', async t => {
  const username = `ünï\r\n${'x'.repeat(5000)}`;
  for (const lists of [policy([]), policy(undefined, [])]) {
    const denied = evaluatePolicy(identity(username), lists);
    for (const text of [denied?.detail, denied?.username]) {
      t.match(text, /^[\x20-\x7e]{512}$/);
      t.match(text, '%C3%BCn%C3%AF%0D%0Axxx');
    }
  }
});

t.test('the longest ServiceAccount is told in full', async t => {
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
