import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Peers, peerChart } from '../../bench/plot/peers-plot.ts';
import { plot } from '../../bench/plot/plot.ts';
import type { Recorded } from '../../bench/recorded.ts';
import { LIGHT } from '../../scripts/drawings/theme.ts';

const ROOT = join(import.meta.dirname, '../..');
const peers: Peers = JSON.parse(readFileSync(join(ROOT, 'bench/plot/peers.json'), 'utf8'));
const results: Recorded[] = JSON.parse(readFileSync(join(ROOT, 'bench/results.json'), 'utf8'));

const texts = (svg: string) => Array.from(svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g), ([, text]) => text ?? '');
/** The width and the colour of each bar. */
const bars = (svg: string) =>
  Array.from(svg.matchAll(/<rect [^>]*width="([\d.]+)" [^>]*fill="([^"]+)"/g), ([, width, fill]) => [
    Number(width),
    fill,
  ]);

t.test('the figures of the peers are those of the page that the picture names', async t => {
  const page = readFileSync(join(ROOT, peers.source), 'utf8');
  t.match(page, `Date: ${peers.date}`);
  const rows = page.split('\n').filter(line => line.startsWith('| '));
  for (const { value, peak, name } of peers.charts.flatMap(chart => chart.bars)) {
    const figure = peak === undefined ? value.toLocaleString('en') : `${value} / ${peak}`;
    const peer = name.split(',', 1)[0];
    t.ok(
      rows.some(row => row.startsWith(`| ${peer}`) && row.includes(`| ${figure} `)),
      `${name}: ${figure}`,
    );
  }
});

t.test('a peer’s bar is as long as its value, with its unit behind it', async t => {
  const chart = {
    title: 'A chart',
    unit: 'ms',
    bars: [
      { name: 'gatecar', value: 50 },
      { name: 'peer', value: 100 },
    ],
  };
  const { svg } = peerChart(chart, LIGHT);
  t.strictSame(bars(svg), [
    [175, LIGHT.blue],
    [350, LIGHT.grey],
  ]);
  t.strictSame(texts(svg), ['A chart', 'gatecar', '50 ms', 'peer', '100 ms']);
});

t.test('a logarithmic chart says so, and each decade has the same length', async t => {
  const chart = {
    title: 'A chart',
    unit: 'ms',
    logarithmic: true,
    bars: [10, 100].map(value => ({ name: 'a', value })),
  };
  const { svg } = peerChart(chart, LIGHT);
  t.equal(texts(svg)[0], 'A chart (logarithmic)');
  t.strictSame(
    bars(svg).map(([width]) => width),
    [175, 350],
  );
});

t.test('every measurement with a goal is in the picture', async t => {
  const svg = plot(results, peers, LIGHT);
  const goals = results.flatMap(({ rows }) => rows.filter(({ goal }) => goal !== undefined));
  const ticks = svg.match(/stroke-width="3"/g) ?? [];
  t.equal(ticks.length, goals.length + 2, 'and two in the legend');
});
