/** A panel of the dashboard, with the series that Prometheus returned for its queries. */
export interface DrawnPanel {
  readonly title: string;
  /** In cells, 24 to a row. */
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>;
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

const CELL = { width: 50, height: 22 };
const GAP = 6;
const COLOURS = [
  '#3274d9',
  '#e0752d',
  '#56a64b',
  '#a352cc',
  '#c4162a',
  '#d9a800',
  '#37872d',
  '#8ab8ff',
  '#705da0',
  '#7c7c7c',
];
const GRAFANAS: Readonly<Record<string, string>> = {
  green: '#56a64b',
  orange: '#e0752d',
  red: '#c4162a',
  blue: '#3274d9',
};
const MIB = 1024 * 1024;
const DAY_SECONDS = 86_400;
/** From this value on, days are shown. */
const MANY_SECONDS = 2 * DAY_SECONDS;
const LEGEND_LINES = 2;
const LEGEND_CHARACTERS = 62;

/**
 * Draws the dashboard as SVG.
 *
 * @param seconds duration of the run.
 * @param stepSeconds time between two points; a longer distance is a gap.
 */
export function picture(panels: readonly DrawnPanel[], seconds: number, stepSeconds: number): string {
  const height = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * CELL.height + GAP;
  const width = 24 * CELL.width + GAP;
  const font = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="11"';
  const drawn = panels.map(panel => drawPanel(panel, seconds, stepSeconds)).join('\n');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ${font}>
<title>The gatecar dashboard</title>
<rect width="100%" height="100%" fill="#f4f5f5"/>
${drawn}
</svg>
`;
}

interface Box {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

function drawPanel(panel: DrawnPanel, seconds: number, stepSeconds: number): string {
  const { x, y, w, h } = panel.gridPos;
  const box = {
    x: x * CELL.width + GAP,
    y: y * CELL.height + GAP,
    w: w * CELL.width - GAP,
    h: h * CELL.height - GAP,
  };
  if (panel.kind === 'heading') return text(box.x + 2, box.y + 13, panel.title, 'font-weight="bold" font-size="13"');
  const frame = `<rect x="${box.x}" y="${box.y}" width="${box.w}" height="${box.h}" fill="#fff" stroke="#d8d9da"/>`;
  const title = text(box.x + 8, box.y + 16, panel.title, 'font-weight="bold"');
  const inside = panel.kind === 'number' ? drawNumber(panel, box) : drawCurves(panel, box, seconds, stepSeconds);
  return `<g>${frame}${title}${inside}</g>`;
}

/**
 * Draws the last value of the first series, as Grafana shows it. If the series has a name, it
 * follows as `value × name`.
 */
function drawNumber({ series = [], unit, words = {}, steps = [] }: DrawnPanel, { x, y, w, h }: Box): string {
  const value = series[0]?.points.at(-1)?.[1];
  if (value === undefined) return text(x + w / 2, y + h / 2 + 12, 'no data', 'text-anchor="middle"');
  const colour = GRAFANAS[steps.findLast(([from]) => value >= from)?.[1] ?? ''] ?? COLOURS[0];
  const name = series[0]?.name ?? '';
  const shown = words[value] ?? (name === '' ? formatted(value, unit) : `${formatted(value, unit)} × ${name}`);
  const field = `<rect x="${x + 1}" y="${y + 24}" width="${w - 2}" height="${h - 25}" fill="${colour}"/>`;
  return field + text(x + w / 2, y + h / 2 + 20, shown, 'text-anchor="middle" font-size="20" fill="#fff"');
}

function drawCurves(panel: DrawnPanel, box: Box, seconds: number, stepSeconds: number): string {
  const all = panel.series ?? [];
  // A series that is 0 throughout is listed in the legend but not drawn.
  const alive = all.filter(({ points }) => points.some(([, value]) => value !== 0));
  const layers = panel.stacked ? stacked(alive) : alive;
  const top = niceTop(panel.unit, Math.max(0, ...layers.flatMap(({ points }) => points.map(([, value]) => value))));
  const plot = { x: box.x + 58, y: box.y + 26, w: box.w - 78, h: box.h - 60 - LEGEND_LINES * 13 + 13 };
  const at = (second: number, value: number): string =>
    `${Math.round(plot.x + (second / seconds) * plot.w)} ${Math.round((plot.y + plot.h - (value / top) * plot.h) * 10) / 10}`;
  const grid = [0, 0.5, 1].map(part => {
    const height = plot.y + plot.h * (1 - part);
    const line = `<path d="M${plot.x} ${height}h${plot.w}" stroke="#e4e5e6"/>`;
    return line + text(plot.x - 5, height + 4, formatted(top * part, panel.unit), 'text-anchor="end" fill="#666"');
  });
  const ticks = Array.from({ length: Math.floor(seconds / 30) + 1 }, (_, place) => {
    const clock = `${Math.floor(place / 2)}:${place % 2 ? '30' : '00'}`;
    return text(
      plot.x + ((place * 30) / seconds) * plot.w,
      plot.y + plot.h + 15,
      clock,
      'text-anchor="middle" fill="#666"',
    );
  });
  const lines = layers.map(({ points }, place) => {
    const path = points
      .map(([second, value], i) => {
        const before = points[i - 1]?.[0];
        return `${before === undefined || second - before > stepSeconds * 1.5 ? 'M' : 'L'}${at(second, value)}`;
      })
      .join('');
    return `<path d="${path}" fill="none" stroke="${COLOURS[place % COLOURS.length]}" stroke-width="1.5"/>`;
  });
  return [...grid, ...ticks, ...lines.reverse(), legend(all, alive, box)].join('');
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

function legend(all: readonly DrawnSeries[], alive: readonly DrawnSeries[], { x, y, w, h }: Box): string {
  const zero = all.length - alive.length;
  const names = [...alive.map(({ name }) => name.trim()), ...(zero > 0 ? [`${zero} at 0`] : [])];
  const characters = (LEGEND_CHARACTERS * w) / 394;
  let [line, used] = [0, 0];
  return names
    .map((name, place) => {
      if (used > 0 && used + name.length + 4 > characters) [line, used] = [line + 1, 0];
      if (line >= LEGEND_LINES) return '';
      const [left, base] = [x + 10 + (used * (w - 20)) / characters, y + h - 8 - (LEGEND_LINES - 1 - line) * 13];
      used += name.length + 4;
      const colour = place < alive.length ? COLOURS[place % COLOURS.length] : '#ccc';
      return `<rect x="${Math.round(left)}" y="${base - 6}" width="9" height="4" fill="${colour}"/>${text(Math.round(left) + 12, base, name, '')}`;
    })
    .join('');
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

function text(x: number, y: number, content: string, style: string): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<text x="${x}" y="${y}" ${style}>${escaped}</text>`;
}
