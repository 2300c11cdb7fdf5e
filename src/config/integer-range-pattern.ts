/**
 * Returns a regular expression for the whole numbers from `min` to `max`, without leading zeros.
 * JSON Schema has limits for numbers but not for numbers in a string.
 *
 * @param min not negative.
 */
export function integerRangePattern(min: number, max: number): string {
  const parts: string[] = [];
  for (let low = min; low <= max; ) {
    // Find how many last digits may have any value, then the range of the digit before them.
    let span = 1;
    while (low > 0 && low % (span * 10) === 0 && low + span * 10 - 1 <= max) span *= 10;
    const first = Math.floor(low / span) % 10;
    const last = Math.min(9, first + Math.floor((max - low + 1) / span) - 1);
    const before = Math.floor(low / (span * 10)) || '';
    const anything = '[0-9]'.repeat(String(span).length - 1);
    parts.push(`${before}${first === last ? first : `[${first}-${last}]`}${anything}`);
    low += (last - first + 1) * span;
  }
  return `(${parts.join('|')})`;
}
