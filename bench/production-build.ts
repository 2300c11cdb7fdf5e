import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const ROOT = join(import.meta.dirname, '..');

/**
 * The command line and environment with which the image runs gatecar. This checkout's root replaces
 * `/app`.
 */
export interface ImageForm {
  readonly env: Readonly<Record<string, string>>;
  /** Arguments of Node.js: its flags and the bundle. */
  readonly args: readonly string[];
}

/** Rebuilds `dist/`, as the Dockerfile does. */
export function buildBundle(): void {
  execFileSync(process.execPath, [join(ROOT, 'scripts/build.ts')], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Reads the form from the Dockerfile, so that the benchmark measures what is shipped. */
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

/**
 * Returns the size of the files that the image adds to its base, in bytes, compressed as in a
 * registry.
 */
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
