import { join } from 'node:path';
import { build, type Metafile } from 'esbuild';

/**
 * Bundles `src/main.ts` and all of its packages: `gatecar.js` and its chunks. Code that few start-ups need (kubeconfig,
 * gRPC, spans, dev, commands) is in chunks that are imported on first use. Returns esbuild's list of what is in the bundle.
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
    // Dependencies in CommonJS expect its globals. All packages are bundled, so that only built-in modules are left to
    // require. Anything else is reported by name and never loaded from outside the bundle.
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
