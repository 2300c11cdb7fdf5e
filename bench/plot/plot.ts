import { bar, path, rounded, svgDocument, text } from '../../scripts/drawings/svg.ts';
import type { Theme } from '../../scripts/drawings/theme.ts';
import type { Recorded } from '../recorded.ts';
import type { Row } from '../scenario.ts';
import { median } from '../statistics.ts';
import { figure, goalText, meets } from '../table.ts';
import { LEFT, type Part, SPAN } from './part.ts';
import { type Peers, peerChart } from './peers-plot.ts';

/** A row that has a goal, and the reference row of its ratios. */
interface Line {
  readonly label: string;
  readonly row: Row;
  readonly reference: Row | undefined;
}

const VALUES = LEFT + SPAN + 12;
const GAP = 24;
/** Room for the title of a part. */
const TITLE = 24;

/** What a scenario is called in the picture. */
const LABELS: Readonly<Record<string, string>> = {
  'cached-http': 'cached token, HTTP',
  'cached-grpc': 'cached token, gRPC',
  'invalid-tokens': 'invalid token',
  miss: 'new token',
  'many-tokens': 'many tokens',
  memory: '',
  soak: 'soak',
};

/**
 * Draws an SVG of gatecar and its peers, and of all measurements of gatecar that have goals: rates,
 * then latencies as ratios, then amounts.
 */
export function plot(recorded: readonly Recorded[], peers: Peers, theme: Theme): string {
  const lines = recorded.flatMap(({ scenario, rows }) => linesOf(scenario, rows));
  const isRate = ({ row }: Line) => row.what.includes('/s');
  const isRatio = ({ row }: Line) => row.goal?.of === 'ratio';
  const dates = recorded.map(({ date }) => date).sort();
  const parts = [
    heading(
      `gatecar and its peers, ${peers.date}`,
      [`${peers.machine}; ${peers.source} has the method and all figures`],
      theme,
    ),
    ...peers.charts.map(chart => peerChart(chart, theme)),
    heading(`gatecar and minimal servers, ${dates.at(-1) ?? ''}`, [], theme),
    legend(theme),
    rates(lines.filter(isRate), theme),
    latencies(
      lines.filter(line => isRatio(line) && !isRate(line)),
      theme,
    ),
    amounts(
      lines.filter(line => !isRatio(line)),
      theme,
    ),
  ];
  let top = 14;
  const placed = parts.map(({ height, svg }) => {
    const group = `<g transform="translate(0 ${top})">${svg}</g>`;
    top += height + GAP;
    return group;
  });
  return svgDocument('gatecar compared with its peers and with minimal servers', top, theme, placed);
}

function heading(title: string, more: readonly string[], theme: Theme): Part {
  const words = more.map(line => text(10, 38, line, { fill: theme.faint, size: 12 }));
  return {
    height: 22 + more.length * 14,
    svg: [text(10, 18, title, { fill: theme.text, bold: true, size: 17 }), ...words].join(''),
  };
}

function legend(theme: Theme): Part {
  const words = { fill: theme.text };
  return {
    height: 8,
    svg: [
      bar(10, 0, 12, 12, theme.grey),
      text(28, 11, 'bare server', words),
      bar(180, 0, 12, 12, theme.blue),
      text(198, 11, 'gatecar, lowest to highest round', words),
      path('M454 -2v16', theme.green, 3),
      text(462, 11, 'goal, met', words),
      path('M554 -2v16', theme.red, 3),
      text(562, 11, 'goal, missed', words),
    ].join(''),
  };
}

function linesOf(scenario: string, rows: readonly Row[]): Line[] {
  return rows.flatMap((row, at) => {
    if (row.goal === undefined) return [];
    const reference = row.ratios && rows.slice(0, at).findLast(({ what, ratios }) => what === row.what && !ratios);
    const what = row.what.replace(/,? (ms|bytes|MB.*?)\b(.*)$/, '$2').replace(/^(decisions|rejections)\/s(, )?/, '');
    const by = row.by.startsWith('gatecar') ? (LABELS[scenario] ?? scenario) : row.by.replace(/, calling gatecar$/, '');
    return [{ label: [by, what].filter(Boolean).join(', '), row, reference }];
  });
}

function rates(lines: readonly Line[], theme: Theme): Part {
  const most = Math.max(...lines.flatMap(({ row, reference }) => [...row.values, ...(reference?.values ?? [])]));
  const x = (value: number) => LEFT + (value / most) * SPAN;
  return part('Responses per second on one core, more is better', 40, lines, theme, ({ label, row, reference }, y) => {
    const base = median(reference?.values ?? []);
    const found = median(row.values);
    return [
      text(LEFT - 10, y + 20, label, { fill: theme.text, anchor: 'end' }),
      bar(LEFT, y + 2, x(base) - LEFT, 12, theme.grey),
      whisker(x, reference?.values ?? [], y + 8, theme),
      bar(LEFT, y + 16, x(found) - LEFT, 12, theme.blue),
      whisker(x, row.values, y + 22, theme),
      tick(x(base * (row.goal?.limit ?? Number.NaN)), y + 15, 14, row, theme),
      text(VALUES, y + 20, `${figure(found)} of ${figure(base)}: ${ratioOf(row)}`, { fill: theme.text }),
    ];
  });
}

function latencies(lines: readonly Line[], theme: Theme): Part {
  const most = Math.min(3, Math.max(1.5, ...lines.flatMap(({ row }) => row.ratios ?? [])));
  const x = (value: number) => LEFT + (Math.min(value, most) / most) * SPAN;
  const grid = (height: number) => path(`M${rounded(x(1))} ${TITLE}V${height}`, theme.faint, 1, '2 2');
  const drawn = part(
    'Latencies, relative to the bare server, less is better',
    22,
    lines,
    theme,
    ({ label, row, reference }, y) => [
      text(LEFT - 10, y + 14, label, { fill: theme.text, anchor: 'end' }),
      bar(LEFT, y + 4, x(median(row.ratios ?? [])) - LEFT, 12, theme.blue),
      whisker(x, row.ratios ?? [], y + 10, theme),
      tick(x(row.goal?.limit ?? Number.NaN), y + 2, 16, row, theme),
      text(VALUES, y + 14, `${pairText(row, reference)}: ${ratioOf(row)}`, { fill: theme.text }),
    ],
  );
  return { ...drawn, svg: drawn.svg + grid(drawn.height) };
}

function amounts(lines: readonly Line[], theme: Theme): Part {
  const share = (value: number, { goal }: Row) => value / (goal?.limit ?? Number.NaN);
  const most = Math.min(3, Math.max(1.25, ...lines.flatMap(({ row }) => row.values.map(value => share(value, row)))));
  const x = (value: number) => LEFT + (Math.min(value, most) / most) * SPAN;
  return part('Amounts, relative to their limits, less is better', 22, lines, theme, ({ label, row }, y) => {
    const shares = row.values.map(value => share(value, row));
    const found = `${figure(median(row.values))}, ${row.goal ? goalText(row.goal) : ''}`;
    return [
      text(LEFT - 10, y + 14, label, { fill: theme.text, anchor: 'end' }),
      bar(LEFT, y + 4, x(median(shares)) - LEFT, 12, theme.blue),
      whisker(x, shares, y + 10, theme),
      tick(x(1), y + 2, 16, row, theme),
      text(VALUES, y + 14, `${found} ${/MB|ms|bytes/.exec(row.what)?.[0] ?? ''}`, { fill: theme.text }),
    ];
  });
}

function part(
  title: string,
  step: number,
  lines: readonly Line[],
  theme: Theme,
  draw: (line: Line, y: number) => string[],
): Part {
  if (lines.length === 0) return { height: 0, svg: '' };
  const height = TITLE + 4 + lines.length * step;
  const axis = path(`M${LEFT} ${TITLE}V${height}`, theme.line);
  const drawn = lines.flatMap((line, place) => draw(line, TITLE + place * step));
  return { height, svg: [text(10, 14, title, { fill: theme.text, bold: true }), axis, ...drawn].join('') };
}

function tick(x: number, y: number, height: number, row: Row, theme: Theme): string {
  return path(`M${rounded(x)} ${y}v${height}`, meets(row) ? theme.green : theme.red, 3);
}

/** Draws a whisker from the lowest to the highest value. */
function whisker(x: (value: number) => number, values: readonly number[], y: number, theme: Theme): string {
  if (values.length < 2) return '';
  const [from, to] = [x(Math.min(...values)), x(Math.max(...values))].map(rounded);
  return path(`M${from} ${y}H${to}M${from} ${y - 3}v6M${to} ${y - 3}v6`, theme.text);
}

function pairText(row: Row, reference: Row | undefined): string {
  const unit = /ms|MB/.exec(row.what)?.[0] ?? '';
  if (reference === undefined) return `${figure(median(row.values))} ${unit}`;
  return `${figure(median(reference.values))} → ${figure(median(row.values))} ${unit}`;
}

function ratioOf({ ratios = [] }: Row): string {
  return `${median(ratios).toFixed(2)} ×`;
}
