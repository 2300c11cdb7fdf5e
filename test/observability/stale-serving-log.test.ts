import t from 'tap';
import { logStaleServing } from '../../src/observability/stale-serving-log.ts';

t.test('stale serving is logged once when it starts and once when it stops, with the number of results', async t => {
  const lines: unknown[] = [];
  const log = { warn: (...line: unknown[]) => lines.push(line), info: (...line: unknown[]) => lines.push(line) };
  const watch = logStaleServing(log as unknown as Parameters<typeof logStaleServing>[0]);
  watch.ended();
  t.equal(watch.active, false);
  for (let round = 0; round < 2; round += 1) {
    for (let result = 0; result < 3; result += 1) watch.served();
    t.equal(watch.active, true);
    watch.ended();
    watch.ended();
    t.equal(watch.active, false);
  }
  const started = ['serving stale results: API server unreachable'];
  const stopped = [{ served: 3 }, 'stopped serving stale results'];
  t.strictSame(lines, [started, stopped, started, stopped]);
});
