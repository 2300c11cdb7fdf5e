import t from 'tap';
import { formsOf, squeeze, unescapings } from '../../src/credential/encoded-forms.ts';

const SECRET = 'a-secret+of/some~length.0123456789';

const isFound = (text: string): boolean => formsOf(text).forms.some(form => form.includes(SECRET));
const percent = (text: string): string =>
  [...Buffer.from(text, 'latin1')].map(byte => `%${byte.toString(16).padStart(2, '0')}`).join('');
const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');

t.test('every kind of escape is decoded, even if nested', async t => {
  const escapes: Record<string, string> = {
    percent: percent(SECRET),
    'percent, upper case': percent(SECRET).toUpperCase(),
    'percent, in part': SECRET.replace('secret', percent('secret')),
    'percent, twice': percent(percent(SECRET)),
    'percent of its percent signs': percent(SECRET).replaceAll('%', '%25252525'),
    'percent with u': SECRET.replaceAll('e', '%u0065'),
    'JSON escapes': SECRET.replaceAll('e', '\\u0065').replaceAll('/', '\\/'),
    'JavaScript escapes': SECRET.replaceAll('e', '\\x65'),
    'character references': SECRET.replaceAll('e', '&#x65;').replaceAll('0', '&#48;'),
    'JSON escapes in percent': percent(SECRET.replaceAll('e', '\\u0065')),
  };
  for (const [name, text] of Object.entries(escapes)) t.ok(isFound(`/x/${text}/y`), name);
});

t.test('a text escaped more often than the limit is reported as incomplete', async t => {
  t.equal(formsOf(`%${'25'.repeat(4)}41`).isComplete, false);
  t.equal(formsOf(`%${'25'.repeat(3)}41`).isComplete, true);
  t.strictSame(unescapings('%2541 %'), ['%2541 %', '%41 %', 'A %']);
});

t.test('base64 is decoded at any offset, in both alphabets and twice', async t => {
  for (const before of ['', '/', '/a', '/ab', '/abc/']) {
    t.ok(isFound(`${before}${base64(SECRET)}`), `after "${before}"`);
    t.ok(isFound(`${before}${Buffer.from(`user:${SECRET}`).toString('base64url')}`), `base64url after "${before}"`);
    t.ok(isFound(`${before}${base64(base64(`x${SECRET}`))}`), `twice after "${before}"`);
  }
  t.ok(isFound(percent(base64(percent(SECRET)))), 'between two layers of percent-encoding');
});

t.test('hexadecimal digits are decoded in any case and with separators', async t => {
  const hex = Buffer.from(SECRET).toString('hex');
  t.ok(isFound(`/x/${hex}`));
  t.ok(isFound(`0${hex.toUpperCase()}`));
  t.ok(isFound((hex.match(/../g) ?? []).join(':')));
});

t.test('squeeze keeps only letters and digits, in lower case', async t => {
  t.equal(squeeze('A-b_c.D/e é0%9\u0000').toString(), 'abcde09');
});

t.test('the size of all decoded forms grows linearly with the text', async t => {
  for (const text of ['%25', 'eyJ', 'A', '\\', '&#x41', '%u0041', '%']) {
    const length = (count: number) => formsOf(text.repeat(count)).forms.join('').length / count;
    t.ok(length(2000) < 2 * length(1000), text);
  }
});
