import t from 'tap';
import { equalTexts } from '../../src/cache/equal-texts.ts';
import type { Identity } from '../../src/identity/identity.ts';
import { identityPacker, PackedServiceAccount } from '../../src/identity/packed.ts';
import { MY_APP } from '../fixtures/identities.ts';

const FIELDS = [
  ...['username', 'uid', 'groups', 'serviceAccount', 'pod', 'podUid', 'node', 'nodeUid', 'credentialId', 'audiences'],
] as const satisfies (keyof Identity)[];

/** Whatever is read of it. */
const read = (identity: Identity) =>
  Object.fromEntries(FIELDS.map(field => [field, identity[field as keyof Identity]]));

/** As whoever keeps it has it. */
function packer(): (identity: Identity) => PackedServiceAccount | undefined {
  const pack = identityPacker(equalTexts(10), equalTexts(10));
  return identity => {
    const packed = pack(identity);
    return packed && new PackedServiceAccount(packed);
  };
}

t.test('a ServiceAccount is packed and reads as before', async t => {
  const pack = packer();
  for (const identity of [
    MY_APP,
    { ...MY_APP, pod: '', podUid: '', node: '', nodeUid: '', credentialId: '' },
    { ...MY_APP, uid: '', pod: 'a b, c', node: '"' },
  ]) {
    const packed = pack(identity);
    t.ok(packed);
    t.strictSame(packed && read(packed), read(identity));
    t.strictSame(packed?.values, [
      ...[identity.serviceAccount?.namespace, identity.serviceAccount?.name, identity.uid, identity.pod],
      ...[identity.podUid, identity.node, identity.nodeUid, identity.credentialId],
    ]);
  }
});

t.test('whoever would read otherwise, or cannot stand in a header as it is, is not', async t => {
  const pack = packer();
  const others: Identity[] = [
    { ...MY_APP, username: 'alice', serviceAccount: undefined },
    { ...MY_APP, username: 'alice' },
    { ...MY_APP, groups: [] },
    { ...MY_APP, groups: [...MY_APP.groups, 'system:masters'] },
    { ...MY_APP, groups: MY_APP.groups.toReversed() },
    ...(['uid', 'pod', 'podUid', 'node', 'nodeUid', 'credentialId'] as const).flatMap(field =>
      ['a\nb', 'Größe', '100 %', '\ud800', '\0', ' a', 'a '].map(value => ({ ...MY_APP, [field]: value })),
    ),
    { ...MY_APP, serviceAccount: { namespace: 'default', name: 'a\nb' } },
    ...['a b', 'a,b'].map(namespace => ({
      ...MY_APP,
      username: `system:serviceaccount:${namespace}:my-app`,
      groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
      serviceAccount: { namespace, name: 'my-app' },
    })),
  ];
  for (const identity of others) t.equal(pack(identity), undefined);
});

t.test('what tokens have in common is kept once', async t => {
  const pack = identityPacker(equalTexts(10), equalTexts(10));
  const first = pack(MY_APP);
  const again = pack({ ...MY_APP, pod: 'other', audiences: [...MY_APP.audiences] });
  t.strictSame(again, { ...first, token: `other\n${MY_APP.podUid}\n${MY_APP.credentialId}` });
  t.equal(again?.audiences, first?.audiences);
  for (const audiences of [[], ['bindcar'], ['other', 'bindcar']]) {
    t.strictSame(pack({ ...MY_APP, audiences })?.audiences, audiences);
  }
  t.strictSame(first?.audiences, ['bindcar', 'other']);
});

t.test('accounts and nodes that are no longer among the latest are packed as well', async t => {
  const pack = packer();
  const identities = Array.from({ length: 3000 }, (_, at) => ({ ...MY_APP, uid: `uid-${at}`, node: `node-${at}` }));
  const packed = [...identities, ...identities].map(pack);
  t.strictSame(
    packed.map(one => `${one?.uid} ${one?.node}`),
    [...identities, ...identities].map(({ uid, node }) => `${uid} ${node}`),
  );
});
