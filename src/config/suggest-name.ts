/** The known name nearest to a mistyped one by edits (Levenshtein), if any is near enough to be meant. */
export function suggestName(name: string, known: readonly string[]): string | undefined {
  let best: { readonly name: string; readonly edits: number } | undefined;
  for (const candidate of known) {
    const edits = distance(name, candidate);
    if (edits <= Math.max(2, candidate.length / 3) && (best === undefined || edits < best.edits)) {
      best = { name: candidate, edits };
    }
  }
  return best?.name;
}

function distance(from: string, to: string): number {
  // The edits from what was read of `from` to each longer beginning of `to`, the empty one left out.
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
