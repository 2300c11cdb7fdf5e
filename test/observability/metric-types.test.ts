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
  for (const metric of metrics) registry.registerMetric(metric as Metric);
  return registry.metrics();
}

t.test('a labelled counter reports its initial values as 0 and further values from their first count', async t => {
  const counter = new LabelledCounter<string>(['hit']);
  counter.add('miss');
  counter.add('miss');
  t.strictSame(
    [...counter.entries()],
    [
      ['hit', 0],
      ['miss', 2],
    ],
  );
  t.strictSame([...new LabelledCounter().entries()], []);
});

t.test('a lazy metric reads its value when it is scraped', async t => {
  let value = 1;
  const gauge = lazyMetric('gauge', 'x_entries', 'Help.', () => [[{ store: 'a' }, value]]);
  t.equal(await text(gauge), '# HELP x_entries Help.\n# TYPE x_entries gauge\nx_entries{store="a"} 1\n');
  value = 2;
  t.match(await text(gauge), /x_entries\{store="a"\} 2/);
});

t.test('a histogram counts a value in every bucket whose bound is not below it', async t => {
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
