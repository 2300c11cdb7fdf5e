import type { Recorded } from './recorded.ts';
import type { Row } from './scenario.ts';
import { median } from './statistics.ts';
import { figure, goalText, meets } from './table.ts';

/** A row that has a goal, and the reference row of its ratios. */
interface Line {
  readonly label: string;
  readonly row: Row;
  readonly reference: Row | undefined;
}

const WIDTH = 900;
const LEFT = 250;
const RIGHT = 210;
const SPAN = WIDTH - LEFT - RIGHT;
const TEXT = '#24292f';
const FAINT = '#6e7781';
const GRID = '#d8dee4';
const REFERENCE = '#b6bec9';
const OURS = '#3274d9';
const MET = '#2b7a2b';
const MISSED = '#c4162a';

/**
 * Draws an SVG of all measurements that have goals: rates, then latencies as ratios, then amounts.
 */
export function plot(recorded: readonly Recorded[]): string {
  const lines = recorded.flatMap(({ scenario, rows }) => linesOf(scenario, rows));
  const isRate = ({ row }: Line) => row.what.includes('/s');
  const isRatio = ({ row }: Line) => row.goal?.of === 'ratio';
  const parts = [
    rates(lines.filter(isRate)),
    latencies(lines.filter(line => isRatio(line) && !isRate(line))),
    amounts(lines.filter(line => !isRatio(line))),
  ];
  let top = 44;
  const placed = parts.map(({ height, svg }) => {
    const group = `<g transform="translate(0 ${top})">${svg}</g>`;
    top += height + 22;
    return group;
  });
  const legend = [
    rect(LEFT, 12, 12, 12, REFERENCE),
    text(LEFT + 18, 22, 'bare server'),
    rect(LEFT + 104, 12, 12, 12, OURS),
    text(LEFT + 122, 22, 'gatecar'),
    `<path d="M${LEFT + 190} 10v16" stroke="${MET}" stroke-width="2.5"/>`,
    text(LEFT + 198, 22, 'goal, met'),
    `<path d="M${LEFT + 280} 10v16" stroke="${MISSED}" stroke-width="2.5"/>`,
    text(LEFT + 288, 22, 'goal, missed'),
  ];
  const font = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12"';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" width="${WIDTH}" height="${top}" ${font}>
<title>gatecar compared with minimal servers</title>
<rect width="100%" height="100%" fill="#fff"/>
${[...legend, ...placed].join('\n')}
</svg>
`;
}

function linesOf(scenario: string, rows: readonly Row[]): Line[] {
  return rows.flatMap((row, at) => {
    if (row.goal === undefined) return [];
    const reference = row.ratios && rows.slice(0, at).findLast(({ what, ratios }) => what === row.what && !ratios);
    const what = row.what.replace(/,? (ms|bytes|MB.*?)\b(.*)$/, '$2').replace(/^(decisions|rejections)\/s(, )?/, '');
    const by = row.by.startsWith('gatecar') ? scenario : row.by.replace(/, calling gatecar$/, '');
    return [{ label: [by, what].filter(Boolean).join(', '), row, reference }];
  });
}

interface Part {
  readonly height: number;
  readonly svg: string;
}

function rates(lines: readonly Line[]): Part {
  const most = Math.max(...lines.flatMap(({ row, reference }) => [...row.values, ...(reference?.values ?? [])]));
  const x = (value: number) => LEFT + (value / most) * SPAN;
  return part('Responses per second, one core', 40, lines, ({ label, row, reference }, y) => {
    const base = median(reference?.values ?? []);
    const found = median(row.values);
    return [
      text(LEFT - 10, y + 20, label, 'end'),
      rect(LEFT, y + 2, x(base) - LEFT, 12, REFERENCE),
      whisker(x, reference?.values ?? [], y + 8),
      rect(LEFT, y + 16, x(found) - LEFT, 12, OURS),
      whisker(x, row.values, y + 22),
      tick(x(base * (row.goal?.limit ?? Number.NaN)), y + 15, 14, row),
      text(WIDTH - RIGHT + 12, y + 20, `${figure(found)} of ${figure(base)}: ${ratioOf(row)}`),
    ];
  });
}

function latencies(lines: readonly Line[]): Part {
  const most = Math.min(3, Math.max(1.5, ...lines.flatMap(({ row }) => row.ratios ?? [])));
  const x = (value: number) => LEFT + (Math.min(value, most) / most) * SPAN;
  const grid = (height: number) => `<path d="M${x(1)} 20V${height}" stroke="${FAINT}" stroke-dasharray="2 2"/>`;
  const drawn = part('Latencies, relative to the bare server', 22, lines, ({ label, row, reference }, y) => [
    text(LEFT - 10, y + 14, label, 'end'),
    rect(LEFT, y + 4, x(median(row.ratios ?? [])) - LEFT, 12, OURS),
    whisker(x, row.ratios ?? [], y + 10),
    tick(x(row.goal?.limit ?? Number.NaN), y + 2, 16, row),
    text(WIDTH - RIGHT + 12, y + 14, `${pairText(row, reference)}: ${ratioOf(row)}`),
  ]);
  return { ...drawn, svg: drawn.svg + grid(drawn.height) };
}

function amounts(lines: readonly Line[]): Part {
  const share = (value: number, { goal }: Row) => value / (goal?.limit ?? Number.NaN);
  const most = Math.min(3, Math.max(1.25, ...lines.flatMap(({ row }) => row.values.map(value => share(value, row)))));
  const x = (value: number) => LEFT + (Math.min(value, most) / most) * SPAN;
  return part('Amounts, relative to their limits', 22, lines, ({ label, row }, y) => {
    const shares = row.values.map(value => share(value, row));
    const found = `${figure(median(row.values))}, ${row.goal ? goalText(row.goal) : ''}`;
    return [
      text(LEFT - 10, y + 14, label, 'end'),
      rect(LEFT, y + 4, x(median(shares)) - LEFT, 12, OURS),
      whisker(x, shares, y + 10),
      tick(x(1), y + 2, 16, row),
      text(WIDTH - RIGHT + 12, y + 14, `${found} ${/MB|ms|bytes/.exec(row.what)?.[0] ?? ''}`),
    ];
  });
}

function part(title: string, step: number, lines: readonly Line[], draw: (line: Line, y: number) => string[]): Part {
  if (lines.length === 0) return { height: 0, svg: '' };
  const height = 24 + lines.length * step;
  const frame = `<path d="M${LEFT} 20V${height}" stroke="${GRID}"/>`;
  const drawn = lines.flatMap((line, at) => draw(line, 20 + at * step));
  return { height, svg: [text(LEFT, 12, title, 'start', 'bold'), frame, ...drawn].join('') };
}

function tick(x: number, y: number, height: number, row: Row): string {
  return `<path d="M${at(x)} ${y}v${height}" stroke="${meets(row) ? MET : MISSED}" stroke-width="2.5"/>`;
}

/** Draws a whisker from the lowest to the highest value. */
function whisker(x: (value: number) => number, values: readonly number[], y: number): string {
  if (values.length < 2) return '';
  const [from, to] = [x(Math.min(...values)), x(Math.max(...values))].map(at);
  return `<path d="M${from} ${y}H${to}M${from} ${y - 3}v6M${to} ${y - 3}v6" stroke="${TEXT}" fill="none"/>`;
}

function pairText(row: Row, reference: Row | undefined): string {
  const unit = /ms|MB/.exec(row.what)?.[0] ?? '';
  if (reference === undefined) return `${figure(median(row.values))} ${unit}`;
  return `${figure(median(reference.values))} → ${figure(median(row.values))} ${unit}`;
}

function ratioOf({ ratios = [] }: Row): string {
  return `${median(ratios).toFixed(2)} ×`;
}

function rect(x: number, y: number, width: number, height: number, fill: string): string {
  return `<rect x="${at(x)}" y="${y}" width="${at(Math.max(0, width))}" height="${height}" fill="${fill}"/>`;
}

function text(x: number, y: number, words: string, anchor = 'start', weight = 'normal'): string {
  const safe = words.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-weight="${weight}" fill="${TEXT}">${safe}</text>`;
}

function at(x: number): number {
  return Number(x.toFixed(1));
}
