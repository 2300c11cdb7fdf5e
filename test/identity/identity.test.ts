import t from 'tap';
import { NAMESPACE, parseServiceAccount, toIdentity } from '../../src/identity/identity.ts';

t.test('a ServiceAccount username is split into namespace and name', async t => {
  const { username, serviceAccount } = toIdentity(
    { username: 'system:serviceaccount:dns-system:bindy.v1', uid: '', groups: [], extra: {} },
    [],
  );
  t.equal(username, 'system:serviceaccount:dns-system:bindy.v1');
  t.strictSame(serviceAccount, { namespace: 'dns-system', name: 'bindy.v1' });
});

t.test('a username that is not a valid ServiceAccount name is not a ServiceAccount', async t => {
  const names = [
    '',
    'alice',
    'system:anonymous',
    'system:node:worker-1',
    'system:serviceaccount',
    'system:serviceaccounts:a:b',
    'system:serviceaccount:default',
    'system:serviceaccount:default:',
    'system:serviceaccount::app',
    'system:serviceaccount:a:b:c',
    ':system:serviceaccount:a:b',
    'x:serviceaccount:a:b',
    'system:x:a:b',
    'system:serviceaccount:A:b',
    'system:serviceaccount:a:B',
    'system:serviceaccount:a.b:c',
    'system:serviceaccount:-a:b',
    'system:serviceaccount:a-:b',
    'system:serviceaccount:a:b-',
    'SYSTEM:serviceaccount:a:b',
    'system:serviceaccount:a:b..c',
    'system:serviceaccount:a:.b',
    'system:serviceaccount:a:b ',
    ' system:serviceaccount:a:b',
    'system:serviceaccount:a\n:b',
    'system:serviceaccount:a:b\n',
    'system:serviceaccount:*:*',
  ];
  for (const name of names) t.equal(parseServiceAccount(name), undefined, JSON.stringify(name));
});

t.test('namespace and name may have the maximum length of the API server, and no more', async t => {
  const [namespace, name] = ['n'.repeat(63), 's'.repeat(253)];
  t.strictSame(parseServiceAccount(`system:serviceaccount:${namespace}:${name}`), { namespace, name });
  t.equal(parseServiceAccount(`system:serviceaccount:${namespace}n:${name}`), undefined);
  t.equal(parseServiceAccount(`system:serviceaccount:${namespace}:${name}s`), undefined);
  t.ok(NAMESPACE.test('a'));
});

t.test('a username of 100 KB with an invalid last character is rejected in linear time', async t => {
  const name = `${'a.'.repeat(50_000)}!`;
  t.equal(parseServiceAccount(`system:serviceaccount:a:${name}`), undefined);
});

t.test('pod, node and credential come from the first value of each Kubernetes extra', async t => {
  const identity = toIdentity(
    {
      username: 'alice',
      uid: 'u-1',
      groups: ['a', 'b'],
      extra: {
        'authentication.kubernetes.io/pod-name': ['my-pod', 'another'],
        'authentication.kubernetes.io/pod-uid': ['pod-uid'],
        'authentication.kubernetes.io/node-name': ['worker-1'],
        'authentication.kubernetes.io/node-uid': ['node-uid'],
        'authentication.kubernetes.io/credential-id': ['JTI=1'],
        'pod-name': ['unused'],
        'example.com/role': ['admin'],
      },
    },
    ['bindcar', 'other'],
  );
  t.strictSame(identity, {
    username: 'alice',
    uid: 'u-1',
    groups: ['a', 'b'],
    serviceAccount: undefined,
    pod: 'my-pod',
    podUid: 'pod-uid',
    node: 'worker-1',
    nodeUid: 'node-uid',
    credentialId: 'JTI=1',
    audiences: ['bindcar', 'other'],
  });
});

t.test('identity fields that the API server does not return are empty', async t => {
  const extra = { 'authentication.kubernetes.io/pod-name': [] };
  const { pod, podUid, node, nodeUid, credentialId } = toIdentity({ username: 'a', uid: '', groups: [], extra }, []);
  t.strictSame([pod, podUid, node, nodeUid, credentialId], ['', '', '', '', '']);
});

t.test('an identity is frozen', async t => {
  t.ok(Object.isFrozen(toIdentity({ username: 'alice', uid: '', groups: [], extra: {} }, [])));
});
