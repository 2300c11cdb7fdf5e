// Builds what the image ships, in dist/: the bundle, the files it reads, its bill of materials and
// its licences.
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GATEWAYS } from '../src/cli/gateway-config/templates.ts';
import { bundle } from './bundle.ts';
import { cycloneDx, licenseTexts, shippedPackages } from './sbom.ts';

const root = join(import.meta.dirname, '..');
const outdir = join(root, 'dist');

await rm(outdir, { recursive: true, force: true });
const metafile = await bundle(root, outdir);
for (const file of Object.values(GATEWAYS).flatMap(({ files }): readonly string[] => files)) {
  await mkdir(join(outdir, 'examples', dirname(file)), { recursive: true });
  await copyFile(join(root, 'examples', file), join(outdir, 'examples', file));
}
await chmod(join(outdir, 'gatecar.js'), 0o755);

const product = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const shipped = shippedPackages(root, metafile);
await writeFile(join(outdir, 'sbom.cdx.json'), cycloneDx(product, shipped));
await writeFile(join(outdir, 'licenses.txt'), licenseTexts(shipped));
