import type { Environment } from '../config/load.ts';
import { redact } from '../credential/redaction.ts';
import { redactJwts } from '../credential/token.ts';
import { MAX_QUOTED_LENGTH } from '../limits/constants.ts';

/** The input and output of a command. */
export interface Terminal {
  readonly write: (text: string) => void;
  /** Writes notes and errors to standard error. */
  readonly complain: (text: string) => void;
  /** Reads all of standard input. */
  readonly readInput: () => Promise<Buffer>;
  /** Whether standard output is a terminal, not a file or a pipe. */
  readonly isTerminal: boolean;
}

/** How good a result is; decides its colour. */
export type Severity = 'good' | 'doubtful' | 'bad' | 'quiet';

const CODES: Readonly<Record<Severity, number>> = { good: 32, doubtful: 33, bad: 31, quiet: 2 };

export type Colorizer = (tone: Severity, text: string) => string;

/** Colours text on a terminal unless `NO_COLOR` is set and not empty (no-color.org). */
export function colorizer({ isTerminal }: Pick<Terminal, 'isTerminal'>, env: Environment): Colorizer {
  const colours = isTerminal && !env['NO_COLOR'];
  return (tone, text) => (colours ? `\u001b[${CODES[tone]}m${text}\u001b[0m` : text);
}

/**
 * Quotes an untrusted value as JSON on one line of printable ASCII. Tokens are redacted. Control
 * characters are escaped, so a terminal cannot interpret them.
 */
export function quoteUntrusted(value: unknown): string {
  const text = asciiJson(value);
  return text.length <= MAX_QUOTED_LENGTH ? text : `${text.slice(0, MAX_QUOTED_LENGTH)}…`;
}

/** Works like {@link quoteUntrusted} without a length limit; several lines if `indent` is given. */
export function asciiJson(value: unknown, indent?: number): string {
  const withoutTokens = (_key: string, part: unknown) => (typeof part === 'string' ? redact(part) : part);
  const text = JSON.stringify(value, withoutTokens, indent) ?? 'undefined';
  return redactJwts(text).replace(/[^\x20-\x7e\n]/g, escaped);
}

/**
 * Redacts tokens and escapes control characters in a line of gatecar's own text. The line may
 * contain text from a setting or a file.
 */
export function stripControl(line: string): string {
  const orders = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
  return redact(line).replace(orders, found => found.split('').map(escaped).join(''));
}

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/**
 * Formats a table of two columns. The first column is as wide as its longest cell. Further lines of
 * a second cell are indented below its first line.
 */
export function columns(rows: readonly (readonly [first: string, second: string])[], indent = ''): string {
  const width = Math.max(0, ...rows.map(([first]) => first.length));
  const below = ' '.repeat(indent.length + width + 2);
  return rows
    .map(([first, second]) => `${indent}${first.padEnd(width)}  ${second.replaceAll('\n', `\n${below}`)}\n`)
    .join('');
}
