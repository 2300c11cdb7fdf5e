import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { picture, type RecordedRun } from '../dashboard/picture.ts';
import { requestPath } from './request-path.ts';
import { drawSequence } from './sequence.ts';
import { SEQUENCES } from './sequences.ts';
import { DARK, type Drawing, LIGHT } from './theme.ts';

const DASHBOARD_RUN = join(import.meta.dirname, '../dashboard/recorded.json');

/** Returns the light and the dark file of every drawing of `docs`, by path in the project. */
export function drawnFiles(): Readonly<Record<string, string>> {
  const sequences = Object.entries(SEQUENCES).map(([name, sequence]) =>
    inBothThemes(`docs/images/${name}`, theme => drawSequence(sequence, theme)),
  );
  const run = JSON.parse(readFileSync(DASHBOARD_RUN, 'utf8')) as RecordedRun;
  return Object.assign(
    inBothThemes('docs/images/request-path', requestPath),
    inBothThemes('docs/dashboard', theme => picture(run, theme)),
    ...sequences,
  );
}

function inBothThemes(path: string, draw: Drawing): Record<string, string> {
  return { [`${path}.svg`]: draw(LIGHT), [`${path}-dark.svg`]: draw(DARK) };
}
