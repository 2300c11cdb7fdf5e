import t from 'tap';
import { createCacheKeyFn } from '../../../src/authentication/cache/cache-key.ts';
import { Token } from '../../../src/credential/token.ts';

const SALT = 'a salt';

const key = (token: string, audiences: readonly string[] = ['bindcar'], salt = SALT): string =>
  createCacheKeyFn(audiences, salt)(new Token(token));

t.test('the same token and audiences have the same cache key', async t => {
  const keys = createCacheKeyFn(['bindcar'], SALT);
  t.equal(keys(new Token('abc')), keys(new Token('abc')));
  t.equal(key('abc'), key('abc'));
});

t.test('a different token, audience list or salt gives a different cache key', async t => {
  const keys = [
    key('abc'),
    key('abd'),
    key('ab'),
    key('abcc'),
    key('ABC'),
    key('abc', []),
    key('abc', ['other']),
    key('abc', ['bindcar', 'other']),
    key('abc', ['other', 'bindcar']),
    key('abc', ['bindcar'], 'another salt'),
  ];
  t.equal(new Set(keys).size, keys.length);
});

t.test('a text that is not a token never has the cache key of a similar token', async t => {
  const token = 'eyJhbGciOiJSUzI1NiJ9.e30.c2ln';
  const texts = [token.replace('e', '\u0165'), token.replace('e', '\uff45'), token.replace('.', '\u042e')];
  for (const text of [...texts, ` ${token}`, `${token} `, `${token}\0`, `${token}=`, token.replace('e', '\ud865')]) {
    t.not(key(text), key(token), JSON.stringify(text));
  }
});

t.test('bytes moved between salt, audiences and token give a different cache key', async t => {
  const keys = [
    key('yz', ['x']),
    key('z', ['xy']),
    key('xyz', []),
    key('z', ['x', 'y']),
    key('', ['x', 'y', 'z']),
    key('z', ['x,y']),
    key('z', ['x1:y']),
    key('1:z', ['x']),
    key('z', ['1:x']),
    key('z', ['', 'x']),
    key('z', ['x', '']),
    key('z', [], 's1:x'),
    key('z', ['x'], 's'),
    key('z', ['x'], 'sx'),
    key('z', ['xx'], 's'),
    key('xz', ['x'], 's'),
  ];
  t.equal(new Set(keys).size, keys.length);
});

t.test('each cache key function has its own random salt by default', async t => {
  const token = new Token('abc');
  t.not(createCacheKeyFn(['bindcar'])(token), createCacheKeyFn(['bindcar'])(token));
});

t.test('a cache key is 32 bytes and contains no part of the token', async t => {
  for (const token of ['abc', 'secret'.repeat(20_000)]) {
    t.equal(key(token).length, 32);
    t.notOk(key(token).includes(token.slice(0, 3)));
  }
});
