import { join } from 'node:path';
import { build, type Metafile } from 'esbuild';

/**
 * Bundles `src/main.ts` and all of its packages into `gatecar.js` and its chunks. Code that few
 * processes need (kubeconfig, gRPC, spans, dev, commands) is in chunks that are imported on first
 * use. Returns esbuild's metafile, which lists the contents of the bundle.
 */
export async function bundle(root: string, outdir: string): Promise<Metafile> {
  const { metafile } = await build({
    absWorkingDir: root,
    metafile: true,
    entryPoints: { gatecar: join(root, 'src/main.ts') },
    outdir,
    bundle: true,
    splitting: true,
    // Identifiers are not shortened: errors and profiles name functions as the source does.
    minifyWhitespace: true,
    minifySyntax: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    legalComments: 'none',
    logLevel: 'warning',
    // CommonJS dependencies expect CommonJS globals. All packages are bundled, so only built-in
    // modules remain to be required. `require` reports any other module by name and never loads it
    // from outside the bundle.
    banner: {
      js: [
        "const require = name => process.getBuiltinModule(name) ?? (() => { throw new Error(name + ' is not in this bundle') })();",
        'const __filename = import.meta.filename;',
        'const __dirname = import.meta.dirname;',
      ].join(' '),
    },
  });
  return metafile;
}
