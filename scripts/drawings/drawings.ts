import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Peers } from '../../bench/plot/peers-plot.ts';
import { plot } from '../../bench/plot/plot.ts';
import type { Recorded } from '../../bench/recorded.ts';
import { picture, type RecordedRun } from '../dashboard/picture.ts';
import { requestPath } from './request-path.ts';
import { drawSequence } from './sequence.ts';
import { SEQUENCES } from './sequences.ts';
import { DARK, type Drawing, LIGHT } from './theme.ts';

const ROOT = join(import.meta.dirname, '../..');

/**
 * Returns the light and the dark file of every picture of `docs`, by path in the project. Those of
 * measurements are drawn from recorded data.
 */
export function drawnFiles(): Readonly<Record<string, string>> {
  const sequences = Object.entries(SEQUENCES).map(([name, sequence]) =>
    inBothThemes(`docs/images/${name}`, theme => drawSequence(sequence, theme)),
  );
  const run: RecordedRun = readJson('scripts/dashboard/recorded.json');
  const [results, peers]: [Recorded[], Peers] = [readJson('bench/results.json'), readJson('bench/plot/peers.json')];
  return Object.assign(
    inBothThemes('docs/images/request-path', requestPath),
    inBothThemes('docs/dashboard', theme => picture(run, theme)),
    inBothThemes('docs/bench', theme => plot(results, peers, theme)),
    ...sequences,
  );
}

function inBothThemes(path: string, draw: Drawing): Record<string, string> {
  return { [`${path}.svg`]: draw(LIGHT), [`${path}-dark.svg`]: draw(DARK) };
}

// biome-ignore lint/suspicious/noExplicitAny: the type of a file is the caller's
function readJson(path: string): any {
  return JSON.parse(readFileSync(join(ROOT, path), 'utf8'));
}
