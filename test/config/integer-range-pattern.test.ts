import t from 'tap';
import { integerRangePattern } from '../../src/config/integer-range-pattern.ts';

// biome-ignore format: a table
const RANGES: readonly (readonly [number, number])[] = [
  [0, 0], [0, 9], [0, 10], [1, 7], [5, 5], [10, 60], [95, 105], [100, 999], [0, 128], [123, 4567],
];

t.test('a pattern matches exactly the numbers of its range', async t => {
  for (const [min, max] of RANGES) {
    const pattern = new RegExp(`^${integerRangePattern(min, max)}$`, 'u');
    const matching = Array.from({ length: 10_100 }, (_, number) => number).filter(number =>
      pattern.test(String(number)),
    );
    t.equal(matching.length, max - min + 1, `${min} to ${max}: ${pattern}`);
    t.equal(matching.at(0), min);
    t.equal(matching.at(-1), max);
  }
});

t.test('the pattern of a large range is short, and leading zeros do not match', async t => {
  const pattern = integerRangePattern(0, 6_000);
  t.equal(pattern, '([0-9]|[1-9][0-9]|[1-9][0-9][0-9]|[1-5][0-9][0-9][0-9]|6000)');
  for (const text of ['00', '01', '6001', '', '1.5', '-1']) t.notMatch(text, new RegExp(`^${pattern}$`, 'u'), text);
});
