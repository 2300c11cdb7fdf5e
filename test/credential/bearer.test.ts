import t from 'tap';
import { parseAuthorization, readCredential } from '../../src/credential/bearer.ts';

t.test('no header, or an empty one, is absent', async t => {
  t.equal(parseAuthorization(undefined).kind, 'absent');
  t.equal(parseAuthorization('').kind, 'absent');
  t.equal(readCredential(['Host', 'x']).kind, 'absent');
});
