import type { Metafile } from 'esbuild';
import t, { type Test } from 'tap';
import { cycloneDx, licenseTexts, shippedPackages } from '../../scripts/bill-of-materials.ts';

type Files = Record<string, string>;

/** The files of a package as npm installs it. */
const installed = (name: string, version: string, license: unknown, files: Files = {}): Files => ({
  'package.json': JSON.stringify({ name, version, license }),
  ...files,
});

const SHA512 = `sha512-${Buffer.alloc(64, 0xab).toString('base64')}`;

function project(t: Test): string {
  return t.testdir({
    'package-lock.json': JSON.stringify({
      packages: { '': {}, 'node_modules/one': { integrity: SHA512 }, 'node_modules/@scope/two': { integrity: SHA512 } },
    }),
    node_modules: {
      one: {
        ...installed('one', '1.0.0', 'MIT', {
          LICENSE: 'MIT of one\n',
          'NOTICE.md': 'notice of one\n',
          'index.js': '',
        }),
        node_modules: {
          '@scope': { two: installed('@scope/two', '1.0.0', 'ISC', { 'license.txt': 'ISC of old two' }) },
        },
      },
      '@scope': { two: installed('@scope/two', '2.0.0', 'Apache-2.0', { COPYING: 'Apache of two' }) },
      three: installed('three', '3.0.0', '0BSD'),
      copyleft: installed('copyleft', '4.0.0', 'GPL-3.0-only'),
      unlicensed: installed('unlicensed', '5.0.0', undefined),
    },
  });
}

/** The metafile of a bundle. @param chunks the bytes of each input file in each output file. */
const bundleOf = (...chunks: Record<string, number>[]): Metafile => ({
  inputs: {},
  outputs: Object.fromEntries(
    chunks.map((bytes, index) => {
      const inputs = Object.fromEntries(Object.entries(bytes).map(([path, size]) => [path, { bytesInOutput: size }]));
      return [`dist/${index}.js`, { bytes: 1, inputs, imports: [], exports: [] }];
    }),
  ),
});

t.test('a package is shipped if the bundle contains bytes of it, or if it is named', async t => {
  const root = project(t);
  const bundle = bundleOf(
    { 'src/main.ts': 9, 'node_modules/one/index.js': 3, 'node_modules/copyleft/index.js': 0 },
    { 'node_modules/one/more.js': 1, 'node_modules/@scope/two/lib/a.js': 1 },
    { 'node_modules/one/node_modules/@scope/two/a.js': 1 },
  );
  const names = (packages: ReturnType<typeof shippedPackages>) => packages.map(p => `${p.name}@${p.version}`);
  t.strictSame(names(shippedPackages(root, bundle)), ['@scope/two@1.0.0', '@scope/two@2.0.0', 'one@1.0.0']);
  t.strictSame(names(shippedPackages(root, bundleOf(), ['three'])), ['three@3.0.0']);
});

t.test('a shipped package is listed with its licence, licence files and lock file hash', async t => {
  const bundle = bundleOf({ 'node_modules/one/index.js': 1, 'node_modules/three/index.js': 1 });
  t.strictSame(shippedPackages(project(t), bundle), [
    { name: 'one', version: '1.0.0', license: 'MIT', text: 'MIT of one\n\nnotice of one', integrity: SHA512 },
    { name: 'three', version: '3.0.0', license: '0BSD', text: '', integrity: undefined },
  ]);
});

t.test('a package without an accepted licence fails the build by name', async t => {
  const root = project(t);
  for (const [name, message] of [
    ['copyleft', 'copyleft 4.0.0: licence GPL-3.0-only is not one of 0BSD, Apache-2.0, '],
    ['unlicensed', 'unlicensed 5.0.0: licence undefined is not one of '],
  ] as const) {
    const bundle = bundleOf({ [`node_modules/${name}/index.js`]: 1 });
    t.throws(() => shippedPackages(root, bundle), { message: new RegExp(`^${message}`) });
  }
});

t.test('the licence texts are concatenated, and a missing one is noted', async t => {
  const bundle = bundleOf({ 'node_modules/one/index.js': 1, 'node_modules/three/index.js': 1 });
  const rule = '-'.repeat(80);
  // biome-ignore format: a list of lines
  t.equal(
    licenseTexts(shippedPackages(project(t), bundle)),
    [
      'gatecar contains the following packages.', '',
      rule, 'one 1.0.0 (MIT)', rule, 'MIT of one', '', 'notice of one', '',
      rule, 'three 3.0.0 (0BSD)', rule, 'The package has no licence file.', '',
    ].join('\n'),
  );
});

t.test('the SBOM lists each package with purl and hash, and is reproducible', async t => {
  const product = { name: 'gatecar', version: '9.8.7', license: 'Apache-2.0' };
  const bundle = bundleOf({ 'node_modules/@scope/two/index.js': 1, 'node_modules/three/index.js': 1 });
  const packages = shippedPackages(project(t), bundle);
  const text = cycloneDx(product, packages);
  t.equal(cycloneDx(product, packages), text);
  t.strictSame(JSON.parse(text), {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: {
        type: 'application',
        'bom-ref': 'pkg:npm/gatecar@9.8.7',
        name: 'gatecar',
        version: '9.8.7',
        licenses: [{ license: { id: 'Apache-2.0' } }],
        purl: 'pkg:npm/gatecar@9.8.7',
      },
    },
    components: [
      {
        type: 'library',
        'bom-ref': 'pkg:npm/%40scope/two@2.0.0',
        name: '@scope/two',
        version: '2.0.0',
        licenses: [{ license: { id: 'Apache-2.0' } }],
        purl: 'pkg:npm/%40scope/two@2.0.0',
        hashes: [{ alg: 'SHA-512', content: 'ab'.repeat(64) }],
      },
      {
        type: 'library',
        'bom-ref': 'pkg:npm/three@3.0.0',
        name: 'three',
        version: '3.0.0',
        licenses: [{ license: { id: '0BSD' } }],
        purl: 'pkg:npm/three@3.0.0',
      },
    ],
  });
});
