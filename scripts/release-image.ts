// Checks the image of a release: node scripts/release-image.ts LAYOUT PLATFORMS
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Descriptor {
  readonly digest: string;
  readonly platform?: { readonly os: string; readonly architecture: string };
}

/**
 * Returns what is wrong with an OCI layout that should hold one image for each platform, a line
 * each. All images must share their last layer, which is gatecar: it depends on no platform, and
 * each image was built by a run of its own.
 *
 * @param platforms such as `linux/amd64`.
 */
export function imageFaults(layout: string, platforms: readonly string[]): string[] {
  const read = (path: string) => JSON.parse(readFileSync(join(layout, path), 'utf8'));
  const blob = ({ digest }: Descriptor) => read(join('blobs', digest.replace(':', '/')));
  const [index, ...others] = read('index.json').manifests as Descriptor[];
  if (!index || others.length > 0) return [`the layout has ${others.length + (index ? 1 : 0)} images, not one`];
  const images: readonly Descriptor[] = blob(index).manifests ?? [];
  const found = images.map(({ platform }) => `${platform?.os}/${platform?.architecture}`);
  const faults = platforms.filter(one => !found.includes(one)).map(one => `no image for ${one}`);
  const configured = images.map(image => blob(blob(image).config));
  for (const [at, { os, architecture }] of configured.entries()) {
    if (`${os}/${architecture}` !== found[at]) faults.push(`the image for ${found[at]} says ${os}/${architecture}`);
  }
  const layers = new Set(images.map(image => blob(image).layers.at(-1)?.digest));
  if (layers.size > 1) faults.push(`gatecar's layer differs between builds: ${[...layers].join(', ')}`);
  return faults;
}

if (import.meta.main) {
  const [layout = '', platforms = ''] = process.argv.slice(2);
  const faults = imageFaults(layout, platforms.split(','));
  for (const fault of faults) process.stderr.write(`image: ${fault}\n`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}
