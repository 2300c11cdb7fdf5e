import t from 'tap';
import { parseMetrics, sumOf, valuesOf } from '../../../src/cli/top/metrics-text.ts';
import { metrics } from '../../../src/observability/metrics.ts';

t.test('samples are read with their labels, and all other lines are skipped', async t => {
  const text = [
    '# HELP a_total What {it} is.',
    '# TYPE a_total counter',
    'a_total{x="1",y="a\\"b\\\\c\\nd, }"} 2.5 1700000000000',
    'a_total{x="2",} 1e3',
    'b 7',
    'c_bucket{le="+Inf"} +Inf',
    '',
    'not a sample',
  ].join('\n');
  t.strictSame(parseMetrics(text), [
    { name: 'a_total', labels: { x: '1', y: 'a"b\\c\nd, }' }, value: 2.5 },
    { name: 'a_total', labels: { x: '2' }, value: 1000 },
    { name: 'b', labels: {}, value: 7 },
    { name: 'c_bucket', labels: { le: '+Inf' }, value: Number.POSITIVE_INFINITY },
    { name: 'not', labels: {}, value: Number.NaN },
  ]);
});

t.test('samples are summed over the labels that are not named', async t => {
  const samples = parseMetrics('a{x="1",y="1"} 1\na{x="1",y="2"} 2\na{x="2"} 4\nb 8\n');
  t.equal(sumOf(samples, 'a'), 7);
  t.equal(sumOf(samples, 'a', { x: '1' }), 3);
  t.equal(sumOf(samples, 'a', { x: '1', y: '2' }), 2);
  t.equal(sumOf(samples, 'absent'), 0);
  t.strictSame(valuesOf(samples, 'a', 'x'), ['1', '2']);
  t.strictSame(valuesOf(samples, 'a', 'y'), ['1', '2', '']);
  t.strictSame(valuesOf(samples, 'a', 'x', { y: '2' }), ['1']);
});

t.test('every sample of gatecar’s own metrics is read', async t => {
  const text = await metrics('1.2.3').scrape();
  const lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'));
  const samples = parseMetrics(text);
  t.equal(samples.length, lines.length);
  t.equal(samples.filter(({ value }) => Number.isNaN(value)).length, lines.filter(line => / nan$/i.test(line)).length);
  t.strictSame(valuesOf(samples, 'gatecar_build_info', 'version'), ['1.2.3']);
});
