import t from 'tap';
import { integerRangePattern } from '../../src/config/integer-range-pattern.ts';

const RANGES: readonly (readonly [number, number])[] = [
  ...([
    [0, 0],
    [0, 9],
    [0, 10],
    [1, 7],
    [5, 5],
    [10, 60],
    [95, 105],
    [100, 999],
    [0, 128],
    [123, 4567],
  ] as const),
];

t.test('a pattern takes the numbers of its range and no others', async t => {
  for (const [min, max] of RANGES) {
    const pattern = new RegExp(`^${integerRangePattern(min, max)}$`, 'u');
    const taken = Array.from({ length: 10_100 }, (_, number) => number).filter(number => pattern.test(String(number)));
    t.equal(taken.length, max - min + 1, `${min} to ${max}: ${pattern}`);
    t.equal(taken.at(0), min);
    t.equal(taken.at(-1), max);
  }
});

t.test('large ranges stay short, and leading zeros are no number', async t => {
  const pattern = integerRangePattern(0, 6_000);
  t.equal(pattern, '([0-9]|[1-9][0-9]|[1-9][0-9][0-9]|[1-5][0-9][0-9][0-9]|6000)');
  for (const text of ['00', '01', '6001', '', '1.5', '-1']) t.notMatch(text, new RegExp(`^${pattern}$`, 'u'), text);
});
