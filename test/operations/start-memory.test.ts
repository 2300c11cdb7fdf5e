import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { releaseStartMemory } from '../../src/operations/start-memory.ts';

t.test('what nobody holds any more is let go of, and nobody else is given the collector', async t => {
  const left = new WeakRef({});
  // A reference that was looked at lives until the end of its turn.
  await turn();
  releaseStartMemory();
  t.equal(left.deref(), undefined);
  t.equal(globalThis.gc, undefined);
});
