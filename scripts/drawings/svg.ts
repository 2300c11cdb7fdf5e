import type { Theme } from './theme.ts';

/** The width at which GitHub shows a picture, in pixels. Drawings have this width. */
export const WIDTH = 830;

/** The height of a line of text, in pixels. */
export const LINE = 17;

const FONT = 'font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif"';
const FONT_SIZE = 13;

interface TextStyle {
  readonly fill: string;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly size?: number;
  readonly bold?: boolean;
}

/** Returns a complete SVG document. `title` is what a screen reader says. */
export function svgDocument(title: string, height: number, theme: Theme, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" ${FONT} font-size="${FONT_SIZE}">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" fill="${theme.background}"/>
${parts.join('\n')}
</svg>
`;
}

/** Draws one line of text; `y` is its baseline. */
export function text(x: number, y: number, words: string, style: TextStyle): string {
  const { fill, anchor = 'start', size, bold } = style;
  const more = `${size === undefined ? '' : ` font-size="${size}"`}${bold ? ' font-weight="bold"' : ''}`;
  return `<text x="${rounded(x)}" y="${rounded(y)}" text-anchor="${anchor}"${more} fill="${fill}">${escaped(words)}</text>`;
}

/** Draws lines of text below each other; `y` is the first baseline. */
export function texts(x: number, y: number, lines: readonly string[], style: TextStyle): string {
  return lines.map((line, place) => text(x, y + place * LINE, line, style)).join('');
}

/** Draws a rectangle with rounded corners. */
export function box(x: number, y: number, w: number, h: number, fill: string, stroke: string): string {
  const size = `width="${rounded(w)}" height="${rounded(h)}"`;
  return `<rect x="${rounded(x)}" y="${rounded(y)}" ${size} rx="6" fill="${fill}" stroke="${stroke}"/>`;
}

/** Draws a rectangle without an edge. A negative width is none. */
export function bar(x: number, y: number, w: number, h: number, fill: string): string {
  return `<rect x="${rounded(x)}" y="${rounded(y)}" width="${rounded(Math.max(0, w))}" height="${h}" fill="${fill}"/>`;
}

/** Draws a path; `dash` is an SVG dash pattern. */
export function path(d: string, stroke: string, width = 1, dash = ''): string {
  const dashes = dash && ` stroke-dasharray="${dash}"`;
  return `<path d="${d}" fill="none" stroke="${stroke}" stroke-width="${width}"${dashes}/>`;
}

/** Draws a horizontal arrow from one x to another. */
export function arrow(from: number, to: number, y: number, colour: string, dash = ''): string {
  const back = Math.sign(to - from) * 9;
  const head = `M${rounded(to)} ${y}l${-back} -4.5v9z`;
  return `${path(`M${rounded(from)} ${y}H${rounded(to - back)}`, colour, 1.6, dash)}<path d="${head}" fill="${colour}"/>`;
}

/** Rounds a coordinate to a tenth of a pixel. */
export function rounded(value: number): number {
  return Number(value.toFixed(1));
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
