import t from 'tap';
import { checkFile } from '../../scripts/check-prose.ts';

const textsOf = (path: string, content: string): string[] => checkFile(path, content).map(({ text }) => text);

t.test('a banned word is reported with the line and a better word', async t => {
  t.strictSame(checkFile('src/a.ts', "// fine\nlog.info('nobody is told');\n"), [
    { line: 2, text: '"nobody": write the actor: the client, the gateway, the API server, gatecar' },
    { line: 2, text: '"told": write logged, returned, reported' },
  ]);
  t.strictSame(textsOf('charts/a.yaml', '# at most one, and beside that nothing\n'), [
    '"beside": write next to, in addition to',
  ]);
});

t.test('the changelog may quote former names in code spans, and no other file', async t => {
  t.strictSame(textsOf('CHANGELOG.md', '- `mend:` is `fix:`.\n'), []);
  t.match(textsOf('CHANGELOG.md', '- mend: is fix:.\n'), [/^"mend"/]);
  t.match(textsOf('README.md', '- `mend:` is `fix:`.\n'), [/^"mend"/]);
});

t.test('a comment of more than 100 columns is reported, and long code or URLs are not', async t => {
  const long = 'x '.repeat(60);
  t.match(textsOf('src/a.ts', `// ${long}\n`), [/^comment of 123 columns/]);
  t.strictSame(textsOf('src/a.ts', `const a = '${long}';\n// https://example.com/${'x'.repeat(100)}\n`), []);
});

t.test('long lines and sentences of Markdown prose are reported; code, tables and headings are skipped', async t => {
  const words = (count: number): string => Array.from({ length: count }, () => 'word').join(' ');
  t.match(textsOf('a.md', `${words(26)}.\n`), [/^130 columns/, /^a sentence of 26 words/]);
  t.strictSame(textsOf('a.md', `${words(13)}\n${words(12)}.\n\n- ${words(20)}\n- ${words(20)}\n`), []);
  t.strictSame(textsOf('a.md', `\`\`\`\n${words(40)}\n\`\`\`\n| ${words(40)} |\n# ${words(40)}\n`), []);
  t.strictSame(textsOf('a.md', `${words(13)} [${words(3)}](https://example.com/)\n${words(5)} \`${words(9)}\`.\n`), []);
});

t.test('the title of a test on a line of its own is not checked, and any other list item is', async t => {
  const title = `nobody is told ${'word '.repeat(30)}`;
  t.strictSame(textsOf('a.md', `- \`test/a.test.ts\`: ${title}\n`), []);
  t.equal(textsOf('a.md', `- \`src/a.ts\`: ${title}\n`).length, 4);
  t.equal(textsOf('a.md', `See \`test/a.test.ts\`: ${title}\n`).length, 4);
});
