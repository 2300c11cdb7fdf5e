// Makes what the image ships: one bundle in dist/, tree-shaken, with the rarely needed parts (kubeconfig, dev) as chunks
// that are loaded when asked for; beside it, which packages are in it and their licences.
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { GATEWAYS } from '../src/commands/gateway-texts.ts';
import { cycloneDx, licenseTexts, shippedPackages } from './bill-of-materials.ts';

const root = join(import.meta.dirname, '..');
const outdir = join(root, 'dist');

await rm(outdir, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  metafile: true,
  entryPoints: { gatecar: join(root, 'src/main.ts') },
  outdir,
  bundle: true,
  splitting: true,
  minify: true,
  // Errors and profiles name functions as the source does.
  keepNames: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  legalComments: 'none',
  logLevel: 'warning',
  // Some dependencies are CommonJS and expect its globals.
  banner: {
    js: [
      "import { createRequire as gatecarCreateRequire } from 'node:module';",
      'const require = gatecarCreateRequire(import.meta.url);',
      'const __filename = import.meta.filename;',
      'const __dirname = import.meta.dirname;',
    ].join(' '),
  },
});
for (const file of Object.values(GATEWAYS).flatMap(({ files }): readonly string[] => files)) {
  await mkdir(join(outdir, 'examples', dirname(file)), { recursive: true });
  await copyFile(join(root, 'examples', file), join(outdir, 'examples', file));
}
await chmod(join(outdir, 'gatecar.js'), 0o755);

const product = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const shipped = shippedPackages(root, metafile);
await writeFile(join(outdir, 'sbom.cdx.json'), cycloneDx(product, shipped));
await writeFile(join(outdir, 'licenses.txt'), licenseTexts(shipped));
