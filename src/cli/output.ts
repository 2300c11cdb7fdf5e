import { wrapText } from '../config/help.ts';
import type { Environment } from '../config/load.ts';
import { redact } from '../credential/redaction.ts';
import { redactJwts } from '../credential/token.ts';
import { MAX_QUOTED_LENGTH } from '../limits/constants.ts';

/** The input and output of a command. */
export interface Terminal {
  readonly write: (text: string) => void;
  /** Writes at once, for commands that run until they are stopped. */
  readonly writeNow: (text: string) => Promise<void>;
  /** Writes notes and errors to standard error. */
  readonly complain: (text: string) => void;
  /** Reads all of standard input. */
  readonly readInput: () => Promise<Buffer>;
  /** Whether standard output is a terminal, not a file or a pipe. */
  readonly isTerminal: boolean;
  /** The columns of that terminal, if they are known. */
  readonly width?: number | undefined;
}

/** How good a result is; decides its colour and its symbol. */
export type Severity = 'good' | 'doubtful' | 'bad' | 'quiet';

/** How a part of a text is painted. `strong` is for titles. */
export type Tone = Severity | 'strong';

const CODES: Readonly<Record<Tone, number>> = { good: 32, doubtful: 33, bad: 31, quiet: 2, strong: 1 };

/** The symbol of each result. */
const SYMBOLS: Readonly<Record<Severity, string>> = { good: '✓', doubtful: '!', bad: '✗', quiet: '-' };

export type Colorizer = (tone: Tone, text: string) => string;

/** Whether text may have escape codes and symbols: on a terminal that can show them. */
function isRich({ isTerminal }: Pick<Terminal, 'isTerminal'>, env: Environment): boolean {
  return isTerminal && env['TERM'] !== 'dumb';
}

/** Colours text on a terminal unless `NO_COLOR` is set and not empty (no-color.org). */
export function colorizer(terminal: Pick<Terminal, 'isTerminal'>, env: Environment): Colorizer {
  const colours = isRich(terminal, env) && !env['NO_COLOR'];
  return (tone, text) => (colours ? `\u001b[${CODES[tone]}m${text}\u001b[0m` : text);
}

/**
 * Returns a function for the symbol of a result, followed by a space. On a terminal it is coloured
 * as {@link colorizer} allows. Elsewhere it is empty: words are easier to search.
 */
export function marker(terminal: Pick<Terminal, 'isTerminal'>, env: Environment): (tone: Severity) => string {
  const paint = colorizer(terminal, env);
  return tone => (isRich(terminal, env) ? `${paint(tone, SYMBOLS[tone])} ` : '');
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

/** A narrower column is not worth the line breaks. */
const MIN_FITTED_WIDTH = 40;

/**
 * Breaks a text at spaces, so that it fits a terminal.
 *
 * @param used the columns at its left. Without a known width, the text stays on one line.
 */
export function fitText(text: string, { width }: Pick<Terminal, 'width'>, used: number): string {
  if (width === undefined || width - used < MIN_FITTED_WIDTH) return text;
  return wrapText(text, width - used).join('\n');
}

/**
 * Formats a table of two columns. The first column is as wide as its longest cell, without codes
 * for colours. Further lines of a second cell are indented below its first line.
 */
export function columns(rows: readonly (readonly [first: string, second: string])[], indent = ''): string {
  const widthOf = (cell: string): number => cell.replaceAll(/\u001b\[\d+m/g, '').length;
  const width = Math.max(0, ...rows.map(([first]) => widthOf(first)));
  const below = ' '.repeat(indent.length + width + 2);
  return rows
    .map(([first, second]) => {
      const padding = ' '.repeat(width - widthOf(first));
      return `${indent}${first}${padding}  ${second.replaceAll('\n', `\n${below}`)}\n`;
    })
    .join('');
}
