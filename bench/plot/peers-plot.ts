import { bar, path, text } from '../../scripts/drawings/svg.ts';
import type { Theme } from '../../scripts/drawings/theme.ts';
import { LEFT, type Part, SPAN } from './part.ts';

/** Figures of gatecar and its peers, measured side by side on one machine. */
export interface Peers {
  /** The date, in ISO 8601. */
  readonly date: string;
  readonly machine: string;
  readonly source: string;
  readonly charts: readonly PeerChart[];
}

interface PeerChart {
  readonly title: string;
  readonly unit: string;
  readonly logarithmic?: boolean;
  readonly bars: readonly { readonly name: string; readonly value: number; readonly peak?: number }[];
}

const STEP = 21;
const BAR_HEIGHT = 13;
/** Room for a chart's title, and for its scale if that is named. */
const TITLE = 30;

/** Draws one chart: a bar for each contender. The bars of a logarithmic chart start at 1. */
export function peerChart({ title, unit, logarithmic = false, bars }: PeerChart, theme: Theme): Part {
  const scale = (value: number): number => (logarithmic ? Math.log10(value) : value);
  const most = Math.max(...bars.map(({ value, peak = value }) => scale(peak)));
  const width = (value: number): number => (scale(value) / most) * SPAN;
  const height = TITLE + bars.length * STEP;
  const drawn = bars.flatMap(({ name, value, peak }, place) => {
    const y = TITLE + place * STEP;
    const isGatecar = name.startsWith('gatecar');
    const shown = [value, peak].filter(one => one !== undefined).map(one => one.toLocaleString('en'));
    return [
      text(LEFT - 10, y + 11, name, { fill: theme.text, anchor: 'end', bold: isGatecar }),
      bar(LEFT, y, width(value), BAR_HEIGHT, isGatecar ? theme.blue : theme.grey),
      peak === undefined ? '' : peakMark(width(value), width(peak), y, theme),
      text(LEFT + width(peak ?? value) + 10, y + 11, `${shown.join(' → ')} ${unit}`.replace(' /s', '/s'), {
        fill: theme.text,
      }),
    ];
  });
  const words = `${title}${logarithmic ? ' (logarithmic)' : ''}`;
  const axis = path(`M${LEFT} ${TITLE - 4}V${height}`, theme.line);
  return { height, svg: [text(10, 14, words, { fill: theme.text, bold: true }), axis, ...drawn].join('') };
}

/** Draws a line from the end of a bar to the peak. */
function peakMark(from: number, to: number, y: number, theme: Theme): string {
  const middle = y + BAR_HEIGHT / 2;
  return path(`M${LEFT + from} ${middle}H${LEFT + to}M${LEFT + to} ${middle - 4}v8`, theme.text, 1.5);
}
