import { type Metric, Registry } from 'prom-client';
import t from 'tap';
import {
  LabelledCounter,
  lazyMetric,
  PlainHistogram,
  scrapedHistograms,
} from '../../src/observability/metric-types.ts';

async function text(...metrics: unknown[]): Promise<string> {
  const registry = new Registry();
  for (const one of metrics) registry.registerMetric(one as Metric);
  return registry.metrics();
}

t.test('a tally shows known values as 0 and counts every other from its first', async t => {
  const tally = new LabelledCounter<string>(['hit']);
  tally.add('miss');
  tally.add('miss');
  t.strictSame(
    [...tally.entries()],
    [
      ['hit', 0],
      ['miss', 2],
    ],
  );
  t.strictSame([...new LabelledCounter().entries()], []);
});

t.test('a number is read when it is scraped', async t => {
  let value = 1;
  const gauge = lazyMetric('gauge', 'x_entries', 'Help.', () => [[{ store: 'a' }, value]]);
  t.equal(await text(gauge), '# HELP x_entries Help.\n# TYPE x_entries gauge\nx_entries{store="a"} 1\n');
  value = 2;
  t.match(await text(gauge), /x_entries\{store="a"\} 2/);
});

t.test('a histogram counts into every bound that a value does not exceed', async t => {
  const histogram = new PlainHistogram([0.1, 1]);
  for (const value of [0.1, 0.5, 7]) histogram.observe(value);
  t.equal(
    await text(scrapedHistograms('x_seconds', 'Help.', [[{ kind: 'a' }, histogram]])),
    [
      '# HELP x_seconds Help.',
      '# TYPE x_seconds histogram',
      'x_seconds_bucket{kind="a",le="0.1"} 1',
      'x_seconds_bucket{kind="a",le="1"} 2',
      'x_seconds_bucket{kind="a",le="+Inf"} 3',
      'x_seconds_sum{kind="a"} 7.6',
      'x_seconds_count{kind="a"} 3',
      '',
    ].join('\n'),
  );
});
