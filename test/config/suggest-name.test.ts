import t from 'tap';
import { nearMiss, suggestName, unknownArgument, unknownChoice, unknownName } from '../../src/config/suggest-name.ts';

t.test('a missing, extra, wrong or swapped letter still finds the name', async t => {
  const names = ['mode', 'listen', 'cache-ttl', 'token-audiences'];
  // biome-ignore format: a table
  const typed = {
    mode: 'mode', mod: 'mode', modes: 'mode', mxde: 'mode', listne: 'listen', ilsten: 'listen', isten: 'listen',
    'cache-tll': 'cache-ttl', cachettl: 'cache-ttl', 'token-audience': 'token-audiences', audiences: undefined,
  };
  for (const [name, expected] of Object.entries(typed)) t.equal(suggestName(name, names), expected, name);
});

t.test('the nearest name is suggested, and the first of equally near ones', async t => {
  t.equal(suggestName('abcd', ['abzz', 'abcz', 'abyz']), 'abcz');
  t.equal(suggestName('abcd', ['abcx', 'abcy']), 'abcx');
  t.equal(suggestName('abcd', ['abcx', 'abcd']), 'abcd');
});

t.test('a name may be two edits away, one if it is short, or a third of its length if that is more', async t => {
  t.equal(suggestName('abcd', ['abcdef']), 'abcdef');
  t.equal(suggestName('ab', ['abc']), 'abc');
  t.equal(suggestName('ab', ['abcd']), undefined);
  t.equal(suggestName('foo', ['top']), undefined);
  t.equal(suggestName('a', ['abcd']), undefined);
  t.equal(suggestName('abcdef___', ['abcdefghi']), 'abcdefghi');
  t.equal(suggestName('abcde____', ['abcdefghi']), undefined);
  t.equal(suggestName('xyza', ['a']), undefined);
  t.equal(suggestName('abxyb', ['ab']), undefined);
});

t.test('edits count the same at any position and in either direction', async t => {
  const long = 'kitten-and-sitting';
  for (const name of [
    'sitten-and-sitting',
    'kitten-and-kitting',
    'kitten-sitting',
    'a-kitten-and-sitting',
    'kittenandsitting',
  ]) {
    t.equal(suggestName(name, [long]), long, name);
    t.equal(suggestName(long, [name]), name, name);
  }
});

t.test('without known names there is no suggestion, and an empty name has none', async t => {
  t.equal(suggestName('mode', []), undefined);
  t.equal(suggestName('', ['ab']), undefined);
  t.equal(suggestName('', ['abc']), undefined);
});

t.test('the error text for an unknown name suggests the closest known name, if it is close enough', async t => {
  const known = ['listen', 'mode'];
  t.equal(unknownName('"lsten"', 'lsten', known, 'setting'), '"lsten" is no known setting; did you mean listen?');
  t.equal(unknownName('"x"', 'xyzxyzxyz', known, 'setting'), '"x" is no known setting');
});

t.test('an unknown argument is quoted, unless it may be a secret', async t => {
  const known = ['listen', 'mode'];
  t.equal(unknownArgument('', known, 'word'), '"" is no known word');
  t.equal(unknownArgument('lsten', known, 'word'), '"lsten" is no known word; did you mean listen?');
  t.match(unknownArgument('x'.repeat(40), known, 'word'), /^\(an argument of 40 characters, .*\) is no known word$/);
});

t.test('an unknown choice is reported with all known ones', async t => {
  t.equal(unknownChoice('xyzxyzxyz', ['a', 'b'], 'shell'), '"xyzxyzxyz" is no known shell. Known: a, b');
  t.equal(unknownChoice('bsh', ['bash'], 'shell'), '"bsh" is no known shell; did you mean bash? Known: bash');
});

t.test('a near miss is at most two edits away, in any case', async t => {
  t.equal(nearMiss('KUBE_TOKEN_PAT', ['KUBE_TOKEN_PATH']), 'KUBE_TOKEN_PATH');
  t.equal(nearMiss('kube_token_pa', ['X', 'KUBE_TOKEN_PATH']), 'KUBE_TOKEN_PATH');
  t.equal(nearMiss('KUBE_TOKEN_P', ['KUBE_TOKEN_PATH']), undefined);
});
