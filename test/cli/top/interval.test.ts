import t from 'tap';
import { intervalOf, type Snapshot, startOf } from '../../../src/cli/top/interval.ts';
import { parseMetrics } from '../../../src/cli/top/metrics-text.ts';

const START = 'process_start_time_seconds 100\n';

function snapshot(atSeconds: number, text: string): Snapshot {
  return { atMs: atSeconds * 1000, samples: parseMetrics(START + text) };
}

t.test('without an earlier snapshot, rates are averages since the start of the process', async t => {
  const interval = intervalOf(snapshot(120, 'a_total 40\n'));
  t.match(interval, { seconds: 20, isSinceStart: true });
  t.equal(interval.rate('a_total'), 2);
  t.equal(startOf(snapshot(120, '')), 100);
});

t.test('with an earlier one, counters count from it', async t => {
  const interval = intervalOf(
    snapshot(120, 'a_total{x="1"} 40\na_total{x="2"} 9\n'),
    snapshot(110, 'a_total{x="1"} 10\n'),
  );
  t.match(interval, { seconds: 10, isSinceStart: false });
  t.equal(interval.increase('a_total', { x: '1' }), 30);
  t.equal(interval.rate('a_total'), 3.9);
});

t.test('a clock that is behind divides by no zero', async t => {
  t.ok(Number.isFinite(intervalOf(snapshot(90, 'a_total 40\n')).rate('a_total')));
});

t.test('quantiles are interpolated within a bucket', async t => {
  const buckets = (...counts: number[]) =>
    ['0.1', '0.2', '+Inf'].map((le, at) => `d_bucket{le="${le}",x="1"} ${counts[at]}\n`).join('');
  const quantile = (share: number, ...counts: number[]) =>
    intervalOf(snapshot(120, buckets(...counts))).quantile('d', share);
  t.equal(quantile(0.5, 0, 0, 0), undefined, 'of nothing there is none');
  t.equal(quantile(0.5, 10, 10, 10), 0.05);
  t.equal(quantile(0.5, 0, 10, 10)?.toFixed(6), '0.150000');
  t.equal(quantile(0.99, 1, 1, 10), 0.2, 'above the last bound, it is that bound');
  const later = intervalOf(snapshot(120, buckets(10, 20, 20)), snapshot(110, buckets(10, 10, 10)));
  t.equal(later.quantile('d', 0.5, { x: '1' })?.toFixed(6), '0.150000', 'earlier observations do not count');
  t.equal(later.quantile('d', 0.5, { x: '2' }), undefined);
  t.equal(later.quantile('absent', 0.5), undefined);
});
