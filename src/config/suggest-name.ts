import { redactArgument } from './arguments.ts';

const MAX_NEAR_MISS_EDITS = 2;

/**
 * Returns the known name that is closest to a mistyped one (Levenshtein), if one is close enough.
 */
export function suggestName(name: string, known: readonly string[]): string | undefined {
  let best: { readonly name: string; readonly edits: number } | undefined;
  for (const candidate of known) {
    const edits = distance(name, candidate);
    if (
      edits <= Math.max(Math.min(2, Math.floor(name.length / 2)), candidate.length / 3) &&
      (best === undefined || edits < best.edits)
    ) {
      best = { name: candidate, edits };
    }
  }
  return best?.name;
}

/** Returns the known name that is at most two edits away from a name in any case, if any. */
export function nearMiss(name: string, known: readonly string[]): string | undefined {
  return known.find(candidate => distance(name.toUpperCase(), candidate) <= MAX_NEAR_MISS_EDITS);
}

/**
 * Returns the error text for an unknown name, with the closest known name.
 *
 * @param shown the name as it is printed.
 */
export function unknownName(shown: string, name: string, known: readonly string[], what: string): string {
  const nearest = suggestName(name, known);
  return `${shown} is no known ${what}${nearest === undefined ? '' : `; did you mean ${nearest}?`}`;
}

/** Works like {@link unknownName} for an argument: quotes it, unless it may be a secret. */
export function unknownArgument(given: string, known: readonly string[], what: string): string {
  const shown = redactArgument(given);
  return unknownName(shown === given ? JSON.stringify(given) : shown, given, known, what);
}

/** Works like {@link unknownArgument}, and lists the known names. */
export function unknownChoice(given: string, known: readonly string[], what: string): string {
  const text = unknownArgument(given, known, what);
  return `${text}${text.endsWith('?') ? '' : '.'} Known: ${known.join(', ')}`;
}

function distance(from: string, to: string): number {
  // Entry `at` is the distance from the part of `from` read so far to the first `at + 1` characters
  // of `to`.
  let row = Array.from(to, (_, at) => at + 1);
  let edits = row.length;
  for (const [read, character] of [...from].entries()) {
    let diagonal = read;
    edits = read + 1;
    row = row.map((above, at) => {
      edits = Math.min(above + 1, edits + 1, diagonal + (character === to[at] ? 0 : 1));
      diagonal = above;
      return edits;
    });
  }
  return edits;
}
