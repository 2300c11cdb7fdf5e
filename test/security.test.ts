import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

// SECURITY.md names a test for each claim; these tests check that those tests exist.

const ROOT = join(import.meta.dirname, '..');
const TEXT = readFileSync(join(ROOT, 'SECURITY.md'), 'utf8');

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
  const patterns = titles.get(path) ?? titlesIn(readFileSync(join(ROOT, path), 'utf8'));
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

t.test('every test named in SECURITY.md exists under its title', async t => {
  const named = [...TEXT.matchAll(/^- `(test\/[^`]+)`: (.+)$/gm)];
  t.ok(named.length > 80, `${named.length} tests are named`);
  for (const [, path = '', title = ''] of named) {
    t.ok(existsSync(join(ROOT, path)) && isTitleOf(path, title), `${path}: ${title}`);
  }
});

t.test('every file named in SECURITY.md exists', async t => {
  for (const [, path = ''] of TEXT.matchAll(/`((?:test|src|examples|rbac)\/[^`]*)`/g))
    t.ok(existsSync(join(ROOT, path)), path);
});

t.test('every threat in SECURITY.md names a test', async t => {
  const threats = TEXT.slice(TEXT.indexOf('\n## Threats'), TEXT.indexOf('\n## What others have met'))
    .split(/^\*\*/m)
    .slice(1);
  t.ok(threats.length > 20);
  for (const threat of threats) t.match(threat, /^- `test\//m, threat.slice(0, threat.indexOf('**')));
});

t.test('each advisory and gateway trap in SECURITY.md names a test, or why it does not apply', async t => {
  const rows = [...TEXT.matchAll(/^\| ((?:§3\.|CVE-|GHSA-|[a-z-]+#)[^|]*) \| ([^|]*) \|$/gm)];
  t.ok(rows.length >= 37, `${rows.length} rows`);
  for (const [, trap = '', here = ''] of rows) {
    for (const number of trap.match(/§3\.\d+|CVE-\d+-\d+|GHSA(?:-\w{4}){3}|[a-z-]+#\d+/g) ?? []) {
      if (here.startsWith('does not reach us: ')) continue;
      const [path = ''] = here.match(/test\/[^`]+/) ?? [];
      const title = new RegExp(`['"\`](?:[A-Za-z0-9-]+, )*${number}[, ]`);
      t.match(readFileSync(join(ROOT, path), 'utf8'), title, `${number} in ${path}`);
    }
  }
});
