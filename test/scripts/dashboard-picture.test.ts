import t from 'tap';
import { type DrawnPanel, picture } from '../../scripts/dashboard/picture.ts';
import { LIGHT } from '../../scripts/drawings/theme.ts';

const curves: DrawnPanel = { title: 'Curves', unit: 'reqps', kind: 'curves' };
const number: DrawnPanel = { title: 'Number', unit: 'none', kind: 'number' };

const draw = (...panels: DrawnPanel[]) => picture({ seconds: 60, stepSeconds: 2, panels }, LIGHT);
const texts = (svg: string) => Array.from(svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g), ([, text]) => text);
/** The paths of the curves, the topmost last, without grid lines. */
const paths = (svg: string) =>
  Array.from(svg.matchAll(/<path d="([^"]*)"[^>]* stroke-width="1.5"/g), ([, d]) => d ?? '');

t.test('a series that is always 0 is counted in the legend and not drawn', async t => {
  const svg = draw({
    ...curves,
    series: [
      { name: 'some', points: [[0, 3]] },
      { name: 'none', points: [[0, 0]] },
    ],
  });
  t.equal(paths(svg).length, 1);
  t.strictSame(texts(svg).slice(-2), ['some', '1 at 0']);
});

t.test('a gap in the samples is a gap in the curve', async t => {
  const points = [0, 2, 4, 20, 22].map(second => [second, 1] as const);
  const [path = ''] = paths(draw({ ...curves, series: [{ name: 'a', points }] }));
  t.strictSame(path.replaceAll(/[^ML]/g, ''), 'MLLML');
});

t.test('stacked curves are added up, and others are not', async t => {
  const series = ['a', 'b'].map(name => ({ name, points: [[0, 4] as const] }));
  const heights = (panel: DrawnPanel) => paths(draw(panel)).map(path => Number(path.split(' ')[1]));
  const [upper = 0, lower = 0] = heights({ ...curves, series, stacked: true });
  t.ok(upper < lower, 'the second curve is above the first');
  const [first, second] = heights({ ...curves, series });
  t.equal(first, second);
});

t.test('an axis has the panel’s unit and a round maximum', async t => {
  const top = (unit: string, value: number) =>
    texts(draw({ ...curves, unit, series: [{ name: 'a', points: [[0, value]] }] }))[3];
  t.equal(top('reqps', 430), '500/s');
  t.equal(top('s', 0.0003), '500 µs');
  t.equal(top('s', 0.015), '20 ms');
  t.equal(top('s', 1.5), '2 s');
  t.equal(top('s', 30 * 86_400), '50 d');
  t.equal(top('bytes', 150 * 1024 * 1024), '200 MiB');
  t.equal(top('percentunit', 0.4), '50 %');
  t.equal(top('short', 0), '1');
});

t.test('a number panel shows the last value with its text and colour', async t => {
  const words = { 0: 'down', 1: 'up' };
  const steps = [
    [0, 'red'],
    [1, 'green'],
  ] as const;
  const of = (values: number[], name = '', more = {}) =>
    draw({ ...number, ...more, series: [{ name, points: values.map((value, index) => [index, value] as const) }] });
  const down = of([1, 0], '', { words, steps });
  t.strictSame(texts(down), ['Number', 'down']);
  t.match(down, '#c4162a');
  t.match(of([0, 1], '', { words, steps }), '#37872d');
  t.strictSame(texts(of([2], '1.2.3')), ['Number', '2 × 1.2.3']);
  t.strictSame(texts(draw(number)), ['Number', 'no data']);
});

t.test('the picture has a title for screen readers', async t => {
  t.match(draw(curves), /^<svg [^>]*>\n<title>[^<]+<\/title>/);
});

t.test('panel titles are escaped in the SVG', async t => {
  t.match(draw({ ...curves, title: 'a < b & c' }), 'a &lt; b &amp; c');
});

t.test('a legend that does not fit a line goes on in the next, and the panel grows', async t => {
  const named = (name: string) => ({ name, points: [[0, 1]] as const });
  const height = (svg: string) => Number(/viewBox="0 0 830 (\d+)"/.exec(svg)?.[1]);
  const short = draw({ ...curves, series: [named('a'), named('b')] });
  const long = draw({ ...curves, series: ['a', 'b'].map(letter => named(letter.repeat(60))) });
  t.equal(height(long) - height(short), 16);
});

t.test('curves are two to a line, numbers three', async t => {
  const left = (svg: string) => Array.from(svg.matchAll(/<rect x="([\d.]+)"[^>]* rx=/g), ([, x]) => Number(x));
  t.strictSame(left(draw(curves, curves, curves)), [8, 419, 8]);
  t.equal(new Set(left(draw(number, number, number, number))).size, 3);
});
