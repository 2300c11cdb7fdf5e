// Lists the third-party packages in a bundle: as CycloneDX for scanners, and as the licence texts
// that must be shipped with it.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Metafile } from 'esbuild';

/**
 * Licences that may be shipped: permissive ones, which at most require their text to be included.
 */
export const ALLOWED_LICENSES = [
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'ISC',
  'MIT',
  'BlueOak-1.0.0',
  'Unlicense',
];

/** A package that contributes at least one byte to the bundle. */
export interface ShippedPackage {
  readonly name: string;
  readonly version: string;
  /** SPDX identifier. */
  readonly license: string;
  /** The text of all its licence and notice files. */
  readonly text: string;
  /** From the lock file, `sha512-<base64>`. */
  readonly integrity: string | undefined;
}

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly integrity?: string }>>;
}

/**
 * Returns the packages in a bundle, sorted by name.
 *
 * @param extra packages whose files are shipped next to the bundle.
 * @throws Error if a licence is not one of {@link ALLOWED_LICENSES}: such a package must not be
 * shipped.
 */
export function shippedPackages(root: string, metafile: Metafile, extra: readonly string[] = []): ShippedPackage[] {
  const lock: LockFile = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const folders = new Set(extra.map(name => `node_modules/${name}`));
  for (const { inputs } of Object.values(metafile.outputs)) {
    for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
      const folder = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
      if (folder !== undefined && bytesInOutput > 0) folders.add(folder);
    }
  }
  return [...folders]
    .map(folder => readPackage(join(root, folder), lock.packages[folder]?.integrity))
    .sort((a, b) => (`${a.name}@${a.version}` < `${b.name}@${b.version}` ? -1 : 1));
}

function readPackage(folder: string, integrity: string | undefined): ShippedPackage {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  if (!ALLOWED_LICENSES.includes(license)) {
    throw new Error(`${name} ${version}: licence ${license} is not one of ${ALLOWED_LICENSES.join(', ')}`);
  }
  const files = readdirSync(folder).filter(file => /^(licen[cs]e|copying|notice)/i.test(file));
  const text = files
    .sort()
    .map(file => readFileSync(join(folder, file), 'utf8').trim())
    .join('\n\n');
  return { name, version, license, text, integrity };
}

/** Concatenates the licence texts of all packages. */
export function licenseTexts(packages: readonly ShippedPackage[]): string {
  const rule = '-'.repeat(80);
  const parts = packages.map(({ name, version, license, text }) =>
    [rule, `${name} ${version} (${license})`, rule, text || 'The package has no licence file.', ''].join('\n'),
  );
  return ['gatecar contains the following packages.', '', ...parts].join('\n');
}

/**
 * Returns a bill of materials in CycloneDX 1.6, JSON. It contains no time and no serial number, so
 * the same bundle gives the same text.
 */
export function cycloneDx(
  product: { name: string; version: string; license: string },
  packages: readonly ShippedPackage[],
): string {
  const bill = {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: component('application', product) },
    components: packages.map(each => ({ ...component('library', each), ...hashes(each.integrity) })),
  };
  return `${JSON.stringify(bill, null, 2)}\n`;
}

function component(type: string, { name, version, license }: { name: string; version: string; license: string }) {
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
  return { type, 'bom-ref': purl, name, version, licenses: [{ license: { id: license } }], purl };
}

function hashes(integrity: string | undefined) {
  if (!integrity?.startsWith('sha512-')) return {};
  return { hashes: [{ alg: 'SHA-512', content: Buffer.from(integrity.slice(7), 'base64').toString('hex') }] };
}
