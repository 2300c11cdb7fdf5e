import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { drawnFiles } from '../../scripts/drawings/drawings.ts';
import { drawSequence, type Sequence } from '../../scripts/drawings/sequence.ts';
import { DARK, LIGHT } from '../../scripts/drawings/theme.ts';

const ROOT = join(import.meta.dirname, '../..');

const sequence: Sequence = { title: 'A < B', participants: ['a', 'b', 'c'], steps: [] };

/** The x of each arrow's start and of its tip. */
const arrows = (svg: string) =>
  Array.from(svg.matchAll(/<path d="M([\d.]+) [\d.]+H[^>]*><path d="M([\d.]+) /g), ([, from, to]) => [
    Number(from),
    Number(to),
  ]);

t.test('every drawing in docs is what `npm run generate` draws', async t => {
  const files = Object.entries(drawnFiles());
  t.ok(files.length >= 6, `${files.length} drawings`);
  for (const [path, svg] of files) t.equal(readFileSync(join(ROOT, path), 'utf8'), svg, path);
});

t.test('every drawing has a title, the width of a page on GitHub, and a light and a dark file', async t => {
  const files = drawnFiles();
  for (const [path, svg] of Object.entries(files)) {
    t.match(svg, /^<svg [^>]*viewBox="0 0 830 \d+"[^>]*>\n<title>[^<]+<\/title>/, path);
    const isDark = path.endsWith('-dark.svg');
    t.ok(Object.hasOwn(files, isDark ? path.replace('-dark', '') : path.replace('.svg', '-dark.svg')), path);
    const { background } = isDark ? DARK : LIGHT;
    t.match(svg, `<rect width="100%" height="100%" fill="${background}"/>`, path);
  }
});

t.test('a message is an arrow from its sender to its receiver', async t => {
  const steps = [
    { from: 'a', to: 'b', lines: ['there'] },
    { from: 'c', to: 'a', lines: ['back'] },
  ];
  t.strictSame(arrows(drawSequence({ ...sequence, steps }, LIGHT)), [
    [66, 415],
    [764, 66],
  ]);
});

t.test('a lost message is dashed, and a cross ends it before the receiver', async t => {
  const svg = drawSequence({ ...sequence, steps: [{ from: 'a', to: 'b', lines: ['lost'], lost: true }] }, LIGHT);
  t.strictSame(arrows(svg), [[66, 399]]);
  t.match(svg, 'stroke-dasharray="5 4"');
  t.match(svg, LIGHT.red);
});

t.test('words are escaped', async t => {
  const svg = drawSequence({ ...sequence, steps: [{ at: 'a', note: ['x & y'] }, { heading: '1 > 0' }] }, LIGHT);
  t.match(svg, '<title>A &lt; B</title>');
  t.match(svg, '>x &amp; y</text>');
  t.match(svg, '>1 &gt; 0</text>');
});
