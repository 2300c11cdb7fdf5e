import { requestPath } from './request-path.ts';
import { drawSequence } from './sequence.ts';
import { SEQUENCES } from './sequences.ts';
import { DARK, type Drawing, LIGHT } from './theme.ts';

/** Returns the light and the dark file of every drawing of `docs`, by path in the project. */
export function drawnFiles(): Readonly<Record<string, string>> {
  const sequences = Object.entries(SEQUENCES).map(([name, sequence]) =>
    inBothThemes(`docs/images/${name}`, theme => drawSequence(sequence, theme)),
  );
  return Object.assign({}, inBothThemes('docs/images/request-path', requestPath), ...sequences);
}

function inBothThemes(path: string, draw: Drawing): Record<string, string> {
  return { [`${path}.svg`]: draw(LIGHT), [`${path}-dark.svg`]: draw(DARK) };
}
