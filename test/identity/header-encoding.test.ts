import t from 'tap';
import { encodeItem, encodeValue } from '../../src/identity/header-encoding.ts';
import { LONE_SURROGATES, NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';

const SEED = 20_260_101;
const ROUNDS = 20_000;

for (const [name, encode, safe] of [
  ['a value', encodeValue, /^(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?$/],
  ['an item', encodeItem, /^[\x21-\x2b\x2d-\x7e]*$/],
] as const) {
  t.test(`${name} is one line of printable ASCII and decodes to what it was`, async t => {
    const random = seeded(SEED);
    const broken: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const text = random.text(NASTY_PIECES, 8);
      const encoded = encode(text);
      if (!safe.test(encoded) || decodeURIComponent(encoded) !== text) broken.push(text);
    }
    t.strictSame(broken, []);
  });

  t.test(`${name} never looks like another one, lone surrogates and all`, async t => {
    const random = seeded(SEED + 1);
    const seen = new Map<string, string>();
    const alike: string[][] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const text = random.text([...NASTY_PIECES, ...LONE_SURROGATES, ...LONE_SURROGATES], 6);
      const encoded = encode(text);
      const other = seen.get(encoded) ?? text;
      if (other !== text || !safe.test(encoded)) alike.push([text, other]);
      seen.set(encoded, text);
    }
    t.strictSame(alike, []);
    t.ok(seen.size > ROUNDS / 2, 'many different ones were tried');
  });

  t.test(`${name} that a ServiceAccount's identity has is left as it is`, async t => {
    const plain = [
      '',
      'system:serviceaccount:default:my-app',
      'system:authenticated',
      'JTI=0f6e4c5e-8f2b',
      'a/b?c=d&e',
    ];
    for (const text of plain) t.equal(encode(text), text);
  });

  t.test(`${name} has nothing encoded but what is unsafe`, async t => {
    const characters = Array.from({ length: 0x180 }, (_, code) => String.fromCharCode(code));
    const expected = characters.map(one => (safe.test(one) && one !== '%' ? one : encodeURIComponent(one)));
    t.strictSame(characters.map(encode), expected);
  });
}

t.test('controls, percent signs and what is not ASCII become bytes of UTF-8 in upper case', async t => {
  t.equal(encodeValue('a\r\nb\0c'), 'a%0D%0Ab%00c');
  t.equal(encodeValue('50%'), '50%25');
  t.equal(encodeValue('ü😀'), '%C3%BC%F0%9F%98%80');
  t.equal(encodeValue('\ud800'), '%ED%A0%80');
  t.equal(encodeValue('\udfff'), '%ED%BF%BF');
});

t.test('a value keeps its inner spaces and loses none at its ends', async t => {
  t.equal(encodeValue('Jane Doe, Ops'), 'Jane Doe, Ops');
  t.equal(encodeValue(' a'), '%20a');
  t.equal(encodeValue('a '), 'a%20');
});

t.test('an item holds no comma and no space, so that a list can be taken apart', async t => {
  t.equal(encodeItem('a,b'), 'a%2Cb');
  t.equal(encodeItem('a b'), 'a%20b');
});
