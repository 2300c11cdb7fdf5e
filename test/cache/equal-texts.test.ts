import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { equalTexts } from '../../src/cache/equal-texts.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const MEGABYTE = 1_000_000;

/** How many megabytes of text are held once so many were shared, each made anew; whatever came of it is kept. */
function held(max: number, names: readonly string[]): number {
  const share = equalTexts(max);
  collect();
  const before = process.memoryUsage().heapUsed;
  const kept = names.map(name => share(Buffer.alloc(MEGABYTE, name).toString('latin1')));
  collect();
  const after = process.memoryUsage().heapUsed;
  t.strictSame(
    kept.map(text => text.length),
    names.map(() => MEGABYTE),
  );
  return Math.round((after - before) / MEGABYTE);
}

t.test('an equal text comes back, and no other', async t => {
  const share = equalTexts(2);
  for (const text of ['a', 'b', 'a', '', 'c', 'a', 'b']) t.equal(share(text), text);
});

t.test('equal texts are kept once', async t => {
  t.equal(held(2, ['a', 'b', 'a', 'b', 'b', 'a', 'a', 'a', 'b', 'a']), 2);
});

t.test('no more are known again than was said', async t => {
  t.equal(held(2, ['a', 'b', 'c', 'a', 'b', 'c']), 6);
});
