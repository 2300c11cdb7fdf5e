import t from 'tap';
import { logClockSkew } from '../../src/observability/clock-log.ts';

t.test('each begin and end of a clock skew is one log line, with the skew in seconds', async t => {
  const lines: unknown[] = [];
  const changed = logClockSkew({
    info: (...line: unknown[]) => lines.push(['info', ...line]),
    warn: (...line: unknown[]) => lines.push(['warn', ...line]),
  });
  changed(true, -600_400);
  changed(false, 900);
  t.strictSame(lines, [
    ['warn', { skewSeconds: -600 }, 'clock skew: token times are not checked locally'],
    ['info', { skewSeconds: 1 }, 'clock skew ended'],
  ]);
});
