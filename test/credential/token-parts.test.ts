import t from 'tap';
import { hasPartOf, partsOf } from '../../src/credential/token-parts.ts';

const has = (texts: readonly string[], secret: string): boolean =>
  hasPartOf(partsOf(texts.map(text => Buffer.from(text))), Buffer.from(secret));

t.test('12 consecutive characters at any position are a part of a secret; 11 are not', async t => {
  const secret = 'abcdefghijklmnopqrstuvwxyz';
  for (const from of [0, 7, secret.length - 12]) {
    t.ok(has([`xx${secret.slice(from, from + 12)}yy`], secret), `from ${from}`);
    t.notOk(has([`xx${secret.slice(from, from + 11)}yy`], secret), `11 characters from ${from}`);
  }
});

t.test('a part of a secret is found only within one text', async t => {
  t.notOk(has(['abcdef', 'ghijkl'], 'abcdefghijkl'));
  t.ok(has(['none', 'abcdefghijkl'], 'abcdefghijkl'));
});

t.test('a secret of fewer than 12 characters is found only as a whole', async t => {
  t.ok(has(['xxabcdefghyy'], 'abcdefgh'));
  t.notOk(has(['xxabcdefgyy'], 'abcdefgh'));
  t.notOk(has([], 'abcdefgh'));
});

t.test('parts of a secret are found in linear time in a text of one repeated character', async t => {
  const text = 'a'.repeat(200_000);
  t.notOk(has([text], `${'a'.repeat(11)}b`.repeat(20_000)));
  t.ok(has([text], `${'b'.repeat(200_000)}${'a'.repeat(12)}`));
});
