import t from 'tap';
import type { Identity } from '../../src/identity/identity.ts';
import { identityPacker } from '../../src/identity/packed.ts';
import { MY_APP } from '../fixtures/identities.ts';

const FIELDS = [
  ...['username', 'uid', 'groups', 'serviceAccount', 'pod', 'podUid', 'node', 'nodeUid', 'credentialId', 'audiences'],
] as const satisfies (keyof Identity)[];

/** Whatever is read of it. */
const read = (identity: Identity) =>
  Object.fromEntries(FIELDS.map(field => [field, identity[field as keyof Identity]]));

t.test('a ServiceAccount is packed and reads as before', async t => {
  const pack = identityPacker();
  for (const identity of [MY_APP, { ...MY_APP, pod: '', podUid: '', node: '', nodeUid: '', credentialId: '' }]) {
    const packed = pack(identity);
    t.not(packed, identity);
    t.strictSame(read(packed), read(identity));
  }
  const odd = { ...MY_APP, uid: '', pod: 'Größe 😀, 100 %', node: '\ud800', credentialId: '\0\t"' };
  t.not(pack(odd), odd);
  t.strictSame(read(pack(odd)), read(odd));
});

t.test('whoever would read otherwise is left as it is', async t => {
  const pack = identityPacker();
  const others: Identity[] = [
    { ...MY_APP, username: 'alice', serviceAccount: undefined },
    { ...MY_APP, username: 'alice' },
    { ...MY_APP, groups: [] },
    { ...MY_APP, groups: [...MY_APP.groups, 'system:masters'] },
    { ...MY_APP, groups: MY_APP.groups.toReversed() },
    ...(['uid', 'pod', 'podUid', 'node', 'nodeUid', 'credentialId'] as const).map(field => ({
      ...MY_APP,
      [field]: 'a\nb',
    })),
  ];
  for (const identity of others) t.equal(pack(identity), identity);
});

t.test('equal lists of audiences are one list, others stay theirs', async t => {
  const pack = identityPacker();
  const first = pack(MY_APP);
  const again = pack({ ...MY_APP, audiences: [...MY_APP.audiences] });
  t.equal(again.audiences, first.audiences);
  for (const audiences of [[], ['bindcar'], ['other', 'bindcar']]) {
    t.strictSame(pack({ ...MY_APP, audiences }).audiences, audiences);
  }
  t.strictSame(first.audiences, ['bindcar', 'other']);
});
