// Makes what the image ships: one bundle in dist/, tree-shaken, with the rarely needed parts (kubeconfig, dev) as chunks
// that are loaded when asked for; beside it, which packages are in it and their licences.
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { GATEWAYS } from '../src/commands/gateway-texts.ts';
import { cycloneDx, licenseTexts, shippedPackages } from './bill-of-materials.ts';

const root = join(import.meta.dirname, '..');
const outdir = join(root, 'dist');

// grpc-health-check reads its messages from a file of its package, which a bundle does not have: from beside the bundle.
const healthProto: Plugin = {
  name: 'health-proto',
  setup({ onLoad }) {
    onLoad({ filter: /grpc-health-check[\\/]build[\\/]src[\\/]health\.js$/ }, async ({ path }) => {
      const contents = await readFile(path, 'utf8');
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a template
      const moved = contents.replace('`${__dirname}/../../proto`', '__dirname');
      if (moved === contents) throw new Error('grpc-health-check has changed: where does it read health.proto from?');
      return { contents: moved, loader: 'js' };
    });
  },
};

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
  plugins: [healthProto],
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
const packages = createRequire(import.meta.url);
const health = join(dirname(packages.resolve('grpc-health-check/package.json')), 'proto/health/v1/health.proto');
await mkdir(join(outdir, 'health/v1'), { recursive: true });
await copyFile(health, join(outdir, 'health/v1/health.proto'));
await copyFile(join(root, 'src/gateway/ext-authz.proto'), join(outdir, 'ext-authz.proto'));
for (const file of Object.values(GATEWAYS).flatMap(({ files }): readonly string[] => files)) {
  await mkdir(join(outdir, 'examples', dirname(file)), { recursive: true });
  await copyFile(join(root, 'examples', file), join(outdir, 'examples', file));
}
await chmod(join(outdir, 'gatecar.js'), 0o755);

const product = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const shipped = shippedPackages(root, metafile, ['grpc-health-check']);
await writeFile(join(outdir, 'sbom.cdx.json'), cycloneDx(product, shipped));
await writeFile(join(outdir, 'licenses.txt'), licenseTexts(shipped));
