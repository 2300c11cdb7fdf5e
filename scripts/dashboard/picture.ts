import { bar, box, path, rounded, svgDocument, text, WIDTH } from '../drawings/svg.ts';
import type { Theme } from '../drawings/theme.ts';

/** A panel of the dashboard, with the series that Prometheus returned for its queries. */
export interface DrawnPanel {
  readonly title: string;
  /** Unit, in Grafana's notation. */
  readonly unit: string;
  readonly kind: 'heading' | 'number' | 'curves';
  readonly stacked?: boolean;
  readonly words?: Readonly<Record<string, string>>;
  /** Colours of a number, each applied from this value upwards. */
  readonly steps?: readonly (readonly [from: number, colour: string])[];
  readonly series?: readonly DrawnSeries[];
}

export interface DrawnSeries {
  readonly name: string;
  /** Seconds since the start, and the value. A gap has no points. */
  readonly points: readonly (readonly [seconds: number, value: number])[];
}

/** A run of gatecar, as Prometheus answers the dashboard's queries after it. */
export interface RecordedRun {
  readonly seconds: number;
  /** Time between two points. A longer distance is a gap. */
  readonly stepSeconds: number;
  readonly panels: readonly DrawnPanel[];
}

const GAP = 8;
/** Height of a panel, without the legend of curves, and the most panels in a line. */
const LAYOUT = {
  heading: { height: 22, columns: 1 },
  number: { height: 76, columns: 3 },
  curves: { height: 166, columns: 2 },
};
const LEGEND_LINE = 16;
/** An estimate of the width of a character, and the width of what precedes a name in the legend. */
const CHARACTER = 7.1;
const MARK = 15;
const TICK_SECONDS = 30;
const COLOURS = [
  '#3274d9',
  '#e0752d',
  '#56a64b',
  '#a352cc',
  '#d63447',
  '#d9a800',
  '#37872d',
  '#8ab8ff',
  '#8471b5',
  '#7c7c7c',
];
const GRAFANAS: Readonly<Record<string, string>> = {
  green: '#37872d',
  orange: '#c25a10',
  red: '#c4162a',
  blue: '#2a62b8',
};
const MIB = 1024 * 1024;
const DAY_SECONDS = 86_400;
/** From this value on, days are shown. */
const MANY_SECONDS = 2 * DAY_SECONDS;

interface Box {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

interface Frame {
  readonly run: RecordedRun;
  readonly theme: Theme;
}

/** Draws the dashboard as SVG, narrower than in Grafana: three numbers or two curves to a line. */
export function picture(run: RecordedRun, theme: Theme): string {
  const drawn: string[] = [];
  let y = GAP;
  for (const line of linesOf(run.panels)) {
    const { height } = LAYOUT[line[0]?.kind ?? 'heading'];
    const w = (WIDTH - GAP * (line.length + 1)) / line.length;
    const h = height + Math.max(...line.map(panel => legendOf(panel, w).lines * LEGEND_LINE));
    for (const [place, panel] of line.entries()) {
      drawn.push(drawPanel(panel, { x: GAP + place * (w + GAP), y, w, h }, { run, theme }));
    }
    y += h + GAP;
  }
  return svgDocument('The gatecar dashboard', y, theme, drawn);
}

/** Returns the panels line by line; a line has panels of one kind. */
function linesOf(panels: readonly DrawnPanel[]): DrawnPanel[][] {
  const lines: DrawnPanel[][] = [];
  for (const panel of panels) {
    const line = lines.at(-1);
    if (line?.[0]?.kind === panel.kind && line.length < LAYOUT[panel.kind].columns) line.push(panel);
    else lines.push([panel]);
  }
  return lines;
}

function drawPanel(panel: DrawnPanel, area: Box, frame: Frame): string {
  const { x, y, w, h } = area;
  const { theme } = frame;
  if (panel.kind === 'heading') return text(x + 2, y + 17, panel.title, { fill: theme.text, bold: true, size: 15 });
  const edge = box(x, y, w, h, theme.background, theme.line);
  const title = text(x + 10, y + 18, panel.title, { fill: theme.text, bold: true });
  const inside = panel.kind === 'number' ? drawNumber(panel, area, frame) : drawCurves(panel, area, frame);
  return `<g>${edge}${title}${inside}</g>`;
}

/**
 * Draws the last value of the first series, as Grafana shows it. If the series has a name, it
 * follows as `value × name`.
 */
function drawNumber({ series = [], unit, words = {}, steps = [] }: DrawnPanel, { x, y, w, h }: Box, { theme }: Frame) {
  const value = series[0]?.points.at(-1)?.[1];
  const middle = x + w / 2;
  if (value === undefined) return text(middle, y + h / 2 + 14, 'no data', { fill: theme.faint, anchor: 'middle' });
  const colour = GRAFANAS[steps.findLast(([from]) => value >= from)?.[1] ?? ''] ?? COLOURS[0] ?? '';
  const name = series[0]?.name ?? '';
  const shown = words[value] ?? (name === '' ? formatted(value, unit) : `${formatted(value, unit)} × ${name}`);
  const field = bar(x + 1, y + 27, w - 2, h - 28, colour);
  return field + text(middle, y + 59, shown, { fill: '#fff', anchor: 'middle', size: 20, bold: true });
}

function drawCurves(panel: DrawnPanel, area: Box, { run, theme }: Frame): string {
  const { seconds, stepSeconds } = run;
  const { alive } = split(panel);
  const layers = panel.stacked ? stacked(alive) : alive;
  const top = niceTop(panel.unit, Math.max(0, ...layers.flatMap(({ points }) => points.map(([, value]) => value))));
  const plot = { x: area.x + 70, y: area.y + 34, w: area.w - 92, h: LAYOUT.curves.height - 66 };
  const at = (second: number, value: number): string =>
    `${rounded(plot.x + (second / seconds) * plot.w)} ${rounded(plot.y + plot.h - (value / top) * plot.h)}`;
  const grid = [0, 0.5, 1].map(part => {
    const height = rounded(plot.y + plot.h * (1 - part));
    const label = text(plot.x - 6, height + 4, formatted(top * part, panel.unit), {
      fill: theme.faint,
      anchor: 'end',
      size: 12,
    });
    return path(`M${plot.x} ${height}h${rounded(plot.w)}`, theme.line) + label;
  });
  const ticks = Array.from({ length: Math.floor(seconds / TICK_SECONDS) + 1 }, (_, place) => {
    const clock = `${Math.floor(place / 2)}:${place % 2 ? '30' : '00'}`;
    const x = plot.x + ((place * TICK_SECONDS) / seconds) * plot.w;
    return text(x, plot.y + plot.h + 17, clock, { fill: theme.faint, anchor: 'middle', size: 12 });
  });
  const lines = layers.map(({ points }, place) => {
    const d = points.map(([second, value], i) => {
      const before = points[i - 1]?.[0];
      return `${before === undefined || second - before > stepSeconds * 1.5 ? 'M' : 'L'}${at(second, value)}`;
    });
    return path(d.join(''), COLOURS[place % COLOURS.length] ?? '', 1.5);
  });
  return [...grid, ...ticks, ...lines.reverse(), drawLegend(panel, area, theme)].join('');
}

/** Splits off the series that are 0 throughout: the legend counts them, and they are not drawn. */
function split({ series = [] }: DrawnPanel): { readonly alive: readonly DrawnSeries[]; readonly zero: number } {
  const alive = series.filter(({ points }) => points.some(([, value]) => value !== 0));
  return { alive, zero: series.length - alive.length };
}

interface LegendEntry {
  readonly name: string;
  /** Undefined for the count of series that are 0. */
  readonly colour: string | undefined;
  readonly x: number;
  readonly line: number;
}

/** Lays out the legend of curves in a panel of this width. */
function legendOf(panel: DrawnPanel, w: number): { readonly entries: readonly LegendEntry[]; readonly lines: number } {
  if (panel.kind !== 'curves') return { entries: [], lines: 0 };
  const { alive, zero } = split(panel);
  const names = [...alive.map(({ name }) => name.trim()), ...(zero > 0 ? [`${zero} at 0`] : [])];
  let [line, x] = [0, 0];
  const entries = names.map((name, place) => {
    const width = MARK + name.length * CHARACTER;
    if (x > 0 && x + width > w - 20) [line, x] = [line + 1, 0];
    const entry = { name, colour: place < alive.length ? COLOURS[place % COLOURS.length] : undefined, x, line };
    x += width + 12;
    return entry;
  });
  return { entries, lines: line + 1 };
}

function drawLegend(panel: DrawnPanel, { x, y, w }: Box, theme: Theme): string {
  return legendOf(panel, w)
    .entries.map(entry => {
      const [left, base] = [x + 10 + entry.x, y + LAYOUT.curves.height + 4 + entry.line * LEGEND_LINE];
      const mark = bar(left, base - 6, 10, 4, entry.colour ?? theme.grey);
      return mark + text(left + MARK, base, entry.name, { fill: theme.text, size: 12 });
    })
    .join('');
}

/** Adds each series to the ones before it, as Grafana stacks them. */
function stacked(series: readonly DrawnSeries[]): DrawnSeries[] {
  const sums = new Map<number, number>();
  return series.map(({ name, points }) => ({
    name,
    points: points.map(([second, value]) => {
      const sum = (sums.get(second) ?? 0) + value;
      sums.set(second, sum);
      return [second, sum] as const;
    }),
  }));
}

/**
 * Returns the top of the axis: the next 1, 2 or 5 times a power of ten, in the unit that is shown.
 */
function niceTop(unit: string, value: number): number {
  if (value <= 0) return 1;
  const scale = unit === 'bytes' ? MIB : unit === 's' && value >= MANY_SECONDS ? DAY_SECONDS : 1;
  const power = 10 ** Math.floor(Math.log10(value / scale));
  return ([1, 2, 5, 10].find(one => one * power >= value / scale) ?? 10) * power * scale;
}

function formatted(value: number, unit: string): string {
  const short = (number: number) => String(Number(number.toPrecision(3)));
  if (unit === 'percentunit') return `${short(value * 100)} %`;
  if (unit === 'bytes') return `${short(value / MIB)} MiB`;
  if (unit === 'reqps' || unit === 'ops') return `${short(value)}/s`;
  if (unit !== 's') return short(value);
  if (value === 0) return '0 s';
  if (value < 0.001) return `${short(value * 1e6)} µs`;
  if (value < 1) return `${short(value * 1e3)} ms`;
  return value < MANY_SECONDS ? `${short(value)} s` : `${short(value / DAY_SECONDS)} d`;
}
