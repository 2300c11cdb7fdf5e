import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { checkFile } from '../../scripts/check-prose.ts';
import { GATEWAYS as PAGES_OF_GATEWAYS } from '../../scripts/docs/gateway-pages.ts';
import { GATEWAYS } from '../../src/cli/gateway-config/templates.ts';

const ROOT = join(import.meta.dirname, '../..');
const PAGES = globSync('docs/**/*.md', { cwd: ROOT }).sort();
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

t.test('the README has at most 150 lines', async t => {
  const lines = read('README.md').trimEnd().split('\n').length;
  t.ok(lines <= 150, `${lines} lines`);
});

t.test('README and docs follow the style', async t => {
  for (const page of ['README.md', ...PAGES]) t.strictSame(checkFile(page, read(page)), [], page);
});

t.test('each page opens with what it answers, and ends with what to read next', async t => {
  for (const page of PAGES) {
    const text = read(page).replace(/^<!-- .* -->\n+/, '');
    t.match(text, /^# .+\n\nThis page answers: /, page);
    const last = text.split(/^(?=## )/m).at(-1);
    t.match(last, /^## Read next\n\n- .*\]\(.*\)/, page);
  }
});

t.test('docs/index.md lists every page, and docs/gateways/index.md every gateway', async t => {
  const index = read('docs/index.md');
  for (const page of PAGES.filter(path => !path.startsWith('docs/gateways/') && path !== 'docs/index.md'))
    t.ok(index.includes(`](${basename(page)})`), page);
  const gateways = read('docs/gateways/index.md');
  t.ok(gateways.includes('\n## What no gateway'));
  const rows = gateways.slice(0, gateways.indexOf('\n## What no gateway'));
  t.strictSame(Object.keys(PAGES_OF_GATEWAYS).sort(), Object.keys(GATEWAYS).sort());
  for (const gateway of Object.keys(GATEWAYS)) {
    t.ok(rows.includes(`](${gateway}.md)`), gateway);
    t.ok(read('README.md').includes(`](docs/gateways/${gateway}.md)`), `README.md: ${gateway}`);
  }
});
