import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const ROOT = join(import.meta.dirname, '..');

/** How the image runs gatecar, with this checkout's root for its `/app`. */
export interface ImageForm {
  readonly env: Readonly<Record<string, string>>;
  /** For Node.js: its flags and the bundle. */
  readonly args: readonly string[];
}

/** Makes `dist/` anew, as the Dockerfile does. */
export function buildBundle(): void {
  execFileSync(process.execPath, [join(ROOT, 'scripts/build.ts')], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Read out of the Dockerfile, so that what is measured is what is shipped. */
export function imageForm(): ImageForm {
  const instructions = finalStage();
  const here = (value: string) => value.replaceAll('/app/', `${ROOT}/`);
  const env = values(instructions, 'ENV').flatMap(line =>
    [...line.matchAll(/(\w+)=(?:"([^"]*)"|(\S+))/g)].map(([, name, quoted, plain]) => [name, quoted ?? plain]),
  );
  const [entrypoint] = values(instructions, 'ENTRYPOINT');
  const [, ...args] = JSON.parse(entrypoint ?? '[]') as string[];
  if (!args.at(-1)?.endsWith('.js')) throw new Error(`the Dockerfile's ENTRYPOINT runs no bundle: ${entrypoint}`);
  return {
    env: Object.fromEntries(env.map(([name = '', value = '']) => [name, here(value)])),
    args: args.map(here),
  };
}

/** What the image has above its base, in bytes, packed as a registry does. */
export function compressedImageBytes(): number {
  const sources = values(finalStage(), 'COPY').flatMap(line => {
    const [...paths] = line.split(/\s+/).filter(word => !word.startsWith('--'));
    return paths.slice(0, -1).map(path => path.replace(/^\/src\//, ''));
  });
  const tar = execFileSync('tar', ['-C', ROOT, '--sort=name', '-cf', '-', ...sources], { maxBuffer: 256 * 1024 ** 2 });
  return gzipSync(tar).length;
}

function finalStage(): string[] {
  const text = readFileSync(join(ROOT, 'Dockerfile'), 'utf8').replaceAll(/\\\n\s*/g, '');
  const lines = text.split('\n');
  return lines.slice(lines.findLastIndex(line => line.startsWith('FROM ')));
}

function values(instructions: readonly string[], name: string): string[] {
  return instructions.filter(line => line.startsWith(`${name} `)).map(line => line.slice(name.length).trim());
}
