import { join } from 'node:path';
import { build, type Metafile } from 'esbuild';
import { leanBundle } from './lean-bundle.ts';

/**
 * One tree-shaken bundle, `gatecar.js` and its chunks: what is rarely needed (kubeconfig, gRPC, spans, dev) is loaded when it is
 * asked for. Says what is in it.
 */
export async function bundle(root: string, outdir: string): Promise<Metafile> {
  const { metafile } = await build({
    absWorkingDir: root,
    metafile: true,
    entryPoints: { gatecar: join(root, 'src/main.ts') },
    outdir,
    bundle: true,
    splitting: true,
    // Errors and profiles name functions as the source does: by names that are left as they are. To shorten them and keep them
    // beside (`keepNames`) costs a call for each function that is made, on the way of each request.
    minifyWhitespace: true,
    minifySyntax: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    legalComments: 'none',
    logLevel: 'warning',
    plugins: [leanBundle(root)],
    // Some dependencies are CommonJS and expect its globals. All that is left for them to require is built in: Node's own loader of
    // CommonJS is not started for that, nor is what an ES module gets of `node:module`.
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
