import { createHash } from 'node:crypto';
import t from 'tap';
import { Token } from '../../../src/credential/token.ts';
import { fingerprint } from '../../../src/observability/logging/token-fingerprint.ts';

t.test('a fingerprint is the first 12 hex digits of the token’s SHA-256', async t => {
  t.equal(fingerprint(new Token('abc')), createHash('sha256').update('abc').digest('hex').slice(0, 12));
  t.not(fingerprint(new Token('abc')), fingerprint(new Token('abd')));
});
