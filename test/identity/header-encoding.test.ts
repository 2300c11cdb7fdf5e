import t from 'tap';
import { encodeItem, encodeValue } from '../../src/identity/header-encoding.ts';
import { LONE_SURROGATES, NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';

const SEED = 20_260_101;
const ROUNDS = 20_000;

for (const [name, encode, safe] of [
  ['a value', encodeValue, /^(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?$/],
  ['an item', encodeItem, /^[\x21-\x2b\x2d-\x7e]*$/],
] as const) {
  t.test(`${name} is encoded as one line of printable ASCII and decodes to the original`, async t => {
    const random = seeded(SEED);
    const failed: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const text = random.text(NASTY_PIECES, 8);
      const encoded = encode(text);
      if (!safe.test(encoded) || decodeURIComponent(encoded) !== text) failed.push(text);
    }
    t.strictSame(failed, []);
  });

  t.test(`${name} never has the encoding of another text, even with lone surrogates`, async t => {
    const random = seeded(SEED + 1);
    const texts = new Map<string, string>();
    const collisions: string[][] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const text = random.text([...NASTY_PIECES, ...LONE_SURROGATES, ...LONE_SURROGATES], 6);
      const encoded = encode(text);
      const previous = texts.get(encoded) ?? text;
      if (previous !== text || !safe.test(encoded)) collisions.push([text, previous]);
      texts.set(encoded, text);
    }
    t.strictSame(collisions, []);
    t.ok(texts.size > ROUNDS / 2, 'more than half of the encodings are different');
  });

  t.test(`${name} of a ServiceAccount's identity is not changed by encoding`, async t => {
    const plain = [
      '',
      'system:serviceaccount:default:my-app',
      'system:authenticated',
      'JTI=0f6e4c5e-8f2b',
      'a/b?c=d&e',
    ];
    for (const text of plain) t.equal(encode(text), text);
  });

  t.test(`${name} has only its unsafe characters encoded`, async t => {
    const characters = Array.from({ length: 0x180 }, (_, code) => String.fromCharCode(code));
    const expected = characters.map(character =>
      safe.test(character) && character !== '%' ? character : encodeURIComponent(character),
    );
    t.strictSame(characters.map(encode), expected);
  });
}

t.test('control characters, percent signs and non-ASCII are percent-encoded as UTF-8 in upper case', async t => {
  t.equal(encodeValue('a\r\nb\0c'), 'a%0D%0Ab%00c');
  t.equal(encodeValue('50%'), '50%25');
  t.equal(encodeValue('ü😀'), '%C3%BC%F0%9F%98%80');
  t.equal(encodeValue('\ud800'), '%ED%A0%80');
  t.equal(encodeValue('\udfff'), '%ED%BF%BF');
});

t.test('a value keeps its inner spaces, and spaces at its ends are encoded', async t => {
  t.equal(encodeValue('Jane Doe, Ops'), 'Jane Doe, Ops');
  t.equal(encodeValue(' a'), '%20a');
  t.equal(encodeValue('a '), 'a%20');
});

t.test('commas and spaces of an item are encoded, so that a list can be split', async t => {
  t.equal(encodeItem('a,b'), 'a%2Cb');
  t.equal(encodeItem('a b'), 'a%20b');
});
