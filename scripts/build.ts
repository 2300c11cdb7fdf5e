// Makes what the image ships: one bundle in dist/, tree-shaken, with the rarely needed parts (kubeconfig, dev) as chunks
// that are loaded when asked for.
import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const outdir = join(root, 'dist');

await rm(outdir, { recursive: true, force: true });
await build({
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
await chmod(join(outdir, 'gatecar.js'), 0o755);
