/** Columns of the terminal that is drawn. Longer lines wrap, as they do there. */
export const COLUMNS = 100;

const CELL = { width: 7.8, height: 18 };
const MARGIN = { x: 18, top: 44, bottom: 16 };
const FONT = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';

/** Dark on light, readable on a white and on a black page. The contrast is 4.5:1 or more. */
const COLOURS = { paper: '#f6f8fa', border: '#d0d7de', text: '#1f2328', title: '#57606a' };

/** The attributes of each code that gatecar prints ("Select Graphic Rendition", ECMA-48). */
const STYLES: Readonly<Record<string, string>> = {
  '0': '',
  '1': ' font-weight="700"',
  '2': ' fill="#57606a"',
  '31': ' fill="#a40e26"',
  '32': ' fill="#116329"',
  '33': ' fill="#7d4e00"',
};

interface Run {
  readonly column: number;
  readonly text: string;
  readonly style: string;
}

/**
 * Draws the output of a command as a picture of a terminal. It has the text as text, so it can be
 * searched and read aloud.
 *
 * @param title in the frame; also the name of the picture for screen readers.
 * @param output with escape codes for colours; all other escape codes are dropped.
 */
export function terminalPicture(title: string, output: string): string {
  const lines = output
    .replaceAll(/\u001b\[\d*[A-Za-z]/g, code => (code.endsWith('m') ? code : ''))
    .trimEnd()
    .split('\n')
    .flatMap(line => wrapped(runsOf(line)));
  const width = Math.round(2 * MARGIN.x + COLUMNS * CELL.width);
  const height = MARGIN.top + lines.length * CELL.height + MARGIN.bottom;
  const text = lines.map((runs, row) => runs.map(run => textOf(run, row)).join('')).join('');
  const dots = ['#ff5f57', '#febc2e', '#28c840'].map(
    (fill, at) => `<circle cx="${20 + at * 18}" cy="18" r="5.5" fill="${fill}"/>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8" fill="${COLOURS.paper}" stroke="${COLOURS.border}"/>
${dots.join('')}
<text x="${width / 2}" y="22" font-family="system-ui, sans-serif" font-size="12" fill="${COLOURS.title}" text-anchor="middle">${escaped(title)}</text>
<g font-family="${FONT.replaceAll('"', "'")}" font-size="13" fill="${COLOURS.text}">
${text}</g>
</svg>
`;
}

function runsOf(line: string): Run[] {
  let style = '';
  let column = 0;
  return line.split(/(\u001b\[\d*m)/).flatMap((part): Run[] => {
    const [, code] = /^\u001b\[(\d*)m$/.exec(part) ?? [];
    if (code !== undefined) style = STYLES[code] ?? '';
    if (part === '' || code !== undefined) return [];
    const run = { column, text: part, style };
    column += part.length;
    return [run];
  });
}

/** Breaks a line after {@link COLUMNS}. */
function wrapped(runs: readonly Run[]): Run[][] {
  const lines: Run[][] = [[]];
  for (const { column, text, style } of runs) {
    for (let at = 0; at < text.length; ) {
      const row = Math.floor((column + at) / COLUMNS);
      const start = (column + at) % COLUMNS;
      const piece = text.slice(at, at + COLUMNS - start);
      lines[row] ??= [];
      lines[row].push({ column: start, text: piece, style });
      at += piece.length;
    }
  }
  return lines;
}

/**
 * Each group of words gets its column, since renderers collapse spaces. `textLength` keeps the
 * columns in place, whatever font the reader has.
 */
function textOf({ column, text, style }: Run, row: number): string {
  const y = MARGIN.top + row * CELL.height + 13;
  return [...text.matchAll(/\S+(?: \S+)*/g)]
    .map(({ 0: words, index }) => {
      const x = (MARGIN.x + (column + index) * CELL.width).toFixed(1);
      const length = (words.length * CELL.width).toFixed(1);
      return `<text x="${x}" y="${y}" textLength="${length}" lengthAdjust="spacingAndGlyphs"${style}>${escaped(words)}</text>\n`;
    })
    .join('');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
