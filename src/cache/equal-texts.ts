import { LRUCache } from 'lru-cache';

/**
 * Gives back the first of equal texts for as long as it is among the latest that came: what many verdicts have in common is
 * kept once.
 *
 * @param max how many are known again.
 */
export function equalTexts(max: number): (text: string) => string {
  const shared = new LRUCache<string, string>({ max });
  return text => {
    const known = shared.get(text);
    if (known !== undefined) return known;
    shared.set(text, text);
    return text;
  };
}
