import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

// docs/threats.md names a test for each claim; these tests check that those tests exist.

const ROOT = join(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const THREATS = read('docs/threats.md');
const PAGES = {
  'SECURITY.md': read('SECURITY.md'),
  'docs/security.md': read('docs/security.md'),
  'docs/threats.md': THREATS,
};

/** Where the threats end and the tables of traps and advisories start. */
const TABLES_START = THREATS.indexOf('\n## Traps of gateways');

/** A line that names a test: `- ` + path in code + `: ` + title. */
const NAMED_TEST = /^- `(test\/[^`]+)`: (.+)$/gm;

/** A test title: a string in any quotes, or a template whose `${…}` matches any text. */
const TITLE = /\btest\(\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`)/g;

/** @returns a pattern for the title of each test in a source text. */
function titlesIn(source: string): RegExp[] {
  return [...source.matchAll(TITLE)].map(([, single, double, template]) => {
    const parts = template?.split(/\$\{(?:[^{}]|\{[^{}]*\})*\}/) ?? [single ?? double ?? ''];
    const escaped = parts.map(part => part.replace(/\\(.)/g, '$1').replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(`^${escaped.join('.+')}$`);
  });
}

const titles = new Map<string, RegExp[]>();

function isTitleOf(path: string, title: string): boolean {
  const patterns = titles.get(path) ?? titlesIn(read(path));
  titles.set(path, patterns);
  return patterns.some(pattern => pattern.test(title));
}

t.test('titles are found in every kind of string literal', async t => {
  const source = `t.test('one', f); t.test("it's two", f);
    t.test(
      'three: it\\'s [3]', f); t.test(\`\${name}: \${\`x\${1}\`} or {4}\`, f); t.comment('five');`;
  const patterns = titlesIn(source);
  t.equal(patterns.length, 4);
  for (const title of ['one', "it's two", "three: it's [3]"])
    t.ok(
      patterns.some(pattern => pattern.test(title)),
      title,
    );
  for (const title of ['five', 'one more', 'threeX'])
    t.notOk(
      patterns.some(pattern => pattern.test(title)),
      title,
    );
});

t.test('every test named in the security pages exists under its title', async t => {
  const named = Object.values(PAGES).flatMap(text => [...text.matchAll(NAMED_TEST)]);
  t.ok(named.length > 240, `${named.length} tests are named`);
  for (const [, path = '', title = ''] of named) {
    t.ok(existsSync(join(ROOT, path)) && isTitleOf(path, title), `${path}: ${title}`);
  }
});

t.test('every file named in the security pages exists', async t => {
  for (const [page, text] of Object.entries(PAGES))
    for (const [, path = ''] of text.matchAll(/`((?:test|src|examples|rbac)\/[^`]*)`/g))
      t.ok(existsSync(join(ROOT, path)), `${page}: ${path}`);
});

t.test('each threat says what it is and what gatecar does, and names a test', async t => {
  t.ok(TABLES_START > 0, 'the tables were found');
  const threats = THREATS.slice(0, TABLES_START).split(/^### /m).slice(1);
  t.ok(threats.length > 40, `${threats.length} threats`);
  for (const threat of threats) {
    const name = threat.slice(0, threat.indexOf('\n'));
    const parts = [...threat.matchAll(/^\*\*(.+?)\*\*/gm)].map(([, part]) => part);
    const withoutRest = ['Threat.', 'What gatecar does.', 'Tests:'];
    t.strictSame(
      parts.filter(part => part !== 'What is left.'),
      withoutRest,
      name,
    );
    t.match(threat.slice(threat.indexOf('**Tests:**')), /^- `test\//m, name);
  }
});

t.test('each class of threats contains a threat, and no test is named outside of one', async t => {
  const classes = THREATS.slice(0, TABLES_START).split(/^## /m).slice(1);
  t.ok(classes.length >= 8, `${classes.length} classes`);
  for (const part of classes) {
    const before = part.split(/^### /m)[0] ?? '';
    t.notMatch(before, /^- `test\//m);
    t.match(part, /^### /m, part.slice(0, part.indexOf('\n')));
  }
  t.notMatch(THREATS.slice(TABLES_START), /^- `test\//m);
});

t.test('each advisory and gateway trap names a test, or why it does not reach gatecar', async t => {
  const rows = [...THREATS.matchAll(/^\| ((?:§3\.|CVE-|GHSA-|[a-z-]+#)[^|]*) \| ([^|]*) \|$/gm)];
  t.ok(rows.length >= 37, `${rows.length} rows`);
  for (const [, trap = '', here = ''] of rows) {
    for (const number of trap.match(/§3\.\d+|CVE-\d+-\d+|GHSA(?:-\w{4}){3}|[a-z-]+#\d+/g) ?? []) {
      if (here.startsWith('does not reach gatecar: ')) continue;
      const [path = ''] = here.match(/test\/[^`]+/) ?? [];
      const title = new RegExp(`['"\`](?:[A-Za-z0-9-]+, )*${number}[, ]`);
      t.match(read(path), title, `${number} in ${path}`);
    }
  }
});
