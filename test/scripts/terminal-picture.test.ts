import t from 'tap';
import { terminalPicture } from '../../scripts/terminal/picture.ts';

const CELL = 7.8;
const LEFT = 18;

/** Each piece of text with its column and its other attributes. */
function pieces(output: string): [text: string, column: number, row: number, style: string][] {
  const found = terminalPicture('title', output).matchAll(
    /<text x="([\d.]+)" y="(\d+)" textLength="([\d.]+)" lengthAdjust="spacingAndGlyphs"([^>]*)>([^<]*)</g,
  );
  return [...found].map(([, x, y, length, style = '', text = '']) => {
    const plain = text.replaceAll(/&\w+;/g, '_');
    t.equal(Number(length).toFixed(1), (plain.length * CELL).toFixed(1), text);
    return [text, Math.round((Number(x) - LEFT) / CELL), (Number(y) - 57) / 18, style.trim()];
  });
}

t.test('words keep their columns and rows', async t => {
  t.strictSame(pieces('a b   c\n\n  d\n'), [
    ['a b', 0, 0, ''],
    ['c', 6, 0, ''],
    ['d', 2, 2, ''],
  ]);
});

t.test('colours are drawn, and other codes are dropped', async t => {
  t.strictSame(pieces('\u001b[H\u001b[32m✓\u001b[0m ok\u001b[K\n\u001b[1mbold\u001b[0m\n\u001b[J'), [
    ['✓', 0, 0, 'fill="#116329"'],
    ['ok', 2, 0, ''],
    ['bold', 0, 1, 'font-weight="700"'],
  ]);
});

t.test('a line wraps after 100 columns, also within a colour', async t => {
  t.strictSame(pieces(`${'a'.repeat(99)}\u001b[31mbcd\u001b[0me\n`), [
    ['a'.repeat(99), 0, 0, ''],
    ['b', 99, 0, 'fill="#a40e26"'],
    ['cd', 0, 1, 'fill="#a40e26"'],
    ['e', 2, 1, ''],
  ]);
});

t.test('text is escaped, and the picture has a name', async t => {
  t.strictSame(
    pieces('<a href="x">&\n').map(([text]) => text),
    ['&lt;a href=&quot;x&quot;&gt;&amp;'],
  );
  t.match(terminalPicture('a "b"', 'x'), ' role="img" aria-label="a &quot;b&quot;"');
});
