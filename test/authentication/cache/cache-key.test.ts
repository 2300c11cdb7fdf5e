import t from 'tap';
import { createCacheKeyFn } from '../../../src/authentication/cache/cache-key.ts';
import { Token } from '../../../src/credential/token.ts';

const SALT = 'a salt';

const key = (token: string, audiences: readonly string[] = ['bindcar'], salt = SALT): string =>
  createCacheKeyFn(audiences, salt)(new Token(token));

t.test('the same token and audiences have the same key', async t => {
  const keys = createCacheKeyFn(['bindcar'], SALT);
  t.equal(keys(new Token('abc')), keys(new Token('abc')));
  t.equal(key('abc'), key('abc'));
});

t.test('another token, other audiences or another salt have another key', async t => {
  const others = [
    ...[key('abc'), key('abd'), key('ab'), key('abcc'), key('ABC'), key('abc', []), key('abc', ['other'])],
    ...[key('abc', ['bindcar', 'other']), key('abc', ['other', 'bindcar']), key('abc', ['bindcar'], 'another salt')],
  ];
  t.equal(new Set(others).size, others.length);
});

t.test('what is no token has no token’s key, whichever bytes its characters share with one', async t => {
  const token = 'eyJhbGciOiJSUzI1NiJ9.e30.c2ln';
  const texts = [token.replace('e', '\u0165'), token.replace('e', '\uff45'), token.replace('.', '\u042e')];
  for (const text of [...texts, ` ${token}`, `${token} `, `${token}\0`, `${token}=`, token.replace('e', '\ud865')]) {
    t.not(key(text), key(token), JSON.stringify(text));
  }
});

t.test('bytes that move from one part to the next make another key', async t => {
  const alike = [
    ...[key('yz', ['x']), key('z', ['xy']), key('xyz', []), key('z', ['x', 'y']), key('', ['x', 'y', 'z'])],
    ...[
      key('z', ['x,y']),
      key('z', ['x1:y']),
      key('1:z', ['x']),
      key('z', ['1:x']),
      key('z', ['', 'x']),
      key('z', ['x', '']),
    ],
    ...[
      key('z', [], 's1:x'),
      key('z', ['x'], 's'),
      key('z', ['x'], 'sx'),
      key('z', ['xx'], 's'),
      key('xz', ['x'], 's'),
    ],
  ];
  t.equal(new Set(alike).size, alike.length);
});

t.test('each process has a salt of its own unless told otherwise', async t => {
  const token = new Token('abc');
  t.not(createCacheKeyFn(['bindcar'])(token), createCacheKeyFn(['bindcar'])(token));
});

t.test('a key is 32 bytes, however long the token, and holds nothing of it', async t => {
  for (const token of ['abc', 'secret'.repeat(20_000)]) {
    t.equal(key(token).length, 32);
    t.notOk(key(token).includes(token.slice(0, 3)));
  }
});
