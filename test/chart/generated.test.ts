import { globSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { generatedFiles } from '../../scripts/chart/generated.ts';

const root = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

t.test('every generated file is current', async t => {
  const files = Object.entries(await generatedFiles());
  t.equal(files.length, 25);
  for (const [path, text] of files) t.equal(read(path), text, `${path}; if not: npm run generate`);
});

t.test('chart, application, image and package have the same version', async t => {
  const { version } = JSON.parse(read('package.json'));
  const chart = read('charts/gatecar/Chart.yaml');
  t.match(chart, `\nversion: ${version}\n`);
  t.match(chart, `\nappVersion: "${version}"\n`);
  t.match(read('Dockerfile'), `\nARG VERSION=${version}\n`);
});

t.test('every image tag in README, docs and examples is the version of the package', t => {
  const examples = readdirSync(join(root, 'examples'), { recursive: true, encoding: 'utf8' });
  const texts = [
    'README.md',
    ...globSync('docs/**/*.md', { cwd: root }),
    ...examples.filter(path => /\.(md|yaml)$/.test(path)).map(path => `examples/${path}`),
  ];
  const tags = texts.flatMap(path =>
    [...read(path).matchAll(/registry\.example\/gatecar:([\w.-]+)/g)].map(([, tag]) => ({ path, tag })),
  );
  t.ok(tags.length > 0);
  const { version } = JSON.parse(read('package.json'));
  t.strictSame(
    tags.filter(({ tag }) => tag !== version),
    [],
  );
  t.end();
});
