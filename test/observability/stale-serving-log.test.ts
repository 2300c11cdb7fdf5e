import t from 'tap';
import { logStaleServing } from '../../src/observability/stale-serving-log.ts';

t.test('one line when it begins and one when it is over, however many results were served', async t => {
  const lines: unknown[] = [];
  const log = { warn: (...line: unknown[]) => lines.push(line), info: (...line: unknown[]) => lines.push(line) };
  const watch = logStaleServing(log as unknown as Parameters<typeof logStaleServing>[0]);
  watch.ended();
  t.equal(watch.active, false);
  for (let round = 0; round < 2; round += 1) {
    for (let verdict = 0; verdict < 3; verdict += 1) watch.served();
    t.equal(watch.active, true);
    watch.ended();
    watch.ended();
    t.equal(watch.active, false);
  }
  const begin = ['serving stale results: API server unreachable'];
  const end = [{ served: 3 }, 'stopped serving stale results'];
  t.strictSame(lines, [begin, end, begin, end]);
});
