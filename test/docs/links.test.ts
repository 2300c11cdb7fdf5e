import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { codeBlocks, links, sectionsByAnchor } from '../fixtures/markdown.ts';

const ROOT = join(import.meta.dirname, '../..');
const PAGES = globSync(['*.md', '{docs,examples,charts,rbac,bench}/**/*.md'], { cwd: ROOT }).sort();
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** Returns what is wrong with a link of a page; `undefined` if it leads somewhere. */
function fault(page: string, target: string): string | undefined {
  if (/^(https?|mailto):/.test(target)) return undefined;
  const [path = '', anchor] = target.split('#');
  const file = path === '' ? page : normalize(join(dirname(page), path));
  if (file.startsWith('..') || !existsSync(join(ROOT, file))) return `no file ${file}`;
  if (anchor === undefined) return undefined;
  if (statSync(join(ROOT, file)).isDirectory()) return `an anchor in the folder ${file}`;
  return sectionsByAnchor(read(file)).has(anchor) ? undefined : `no section #${anchor} in ${file}`;
}

t.test('every relative link of every page leads to a file, and every anchor to a heading', async t => {
  t.ok(PAGES.length > 45, `${PAGES.length} pages`);
  let count = 0;
  for (const page of PAGES) {
    for (const { target, line } of links(read(page))) {
      count += 1;
      t.equal(fault(page, target), undefined, `${page}:${line}: ${target}`);
    }
  }
  t.ok(count > 300, `${count} links`);
});

t.test('a broken link, image or anchor would be seen', async t => {
  const page = [
    '# A & B',
    '[a](README.md) [b](none.md) [c](#a--b) [d](#c)',
    '![e](none.svg)',
    '<img src="none.png">',
    '`[f](none.txt)`',
    '```',
    '[g](none)',
    '```',
  ].join('\n');
  const found = links(page);
  t.strictSame(
    found.map(({ target, line }) => `${target} ${line}`),
    ['README.md 2', 'none.md 2', '#a--b 2', '#c 2', 'none.svg 3', 'none.png 4'],
  );
  t.strictSame([...sectionsByAnchor(page).keys()], ['a--b']);
  t.match(fault('README.md', 'none.md'), 'no file none.md');
  t.match(fault('README.md', '../outside.md'), 'no file');
  t.match(fault('README.md', '#none'), 'no section #none');
  t.equal(fault('docs/index.md', '../README.md#quick-start'), undefined);
});

t.test('blocks of code are read with language, line and marker', async t => {
  const page = 'a\n\n<!-- needs a cluster -->\n```sh\nx\n```\n\n- b\n\n  ```text\n  y\n    z\n  ```\n';
  t.strictSame(codeBlocks(page), [
    { language: 'sh', text: 'x\n', line: 4, marker: 'needs a cluster' },
    { language: 'text', text: 'y\n  z\n', line: 10, marker: '' },
  ]);
});
