import type { Environment } from '../config/load.ts';
import { redact } from '../credential/redaction.ts';
import { redactJwts } from '../credential/token.ts';

/** Where a command reads and writes, and what it may use there. */
export interface Terminal {
  readonly write: (text: string) => void;
  /** Beside what is asked for: standard error. */
  readonly complain: (text: string) => void;
  /** All of standard input. */
  readonly readInput: () => Promise<Buffer>;
  /** Whether what is written goes to one, and not to a file or a pipe. */
  readonly isTerminal: boolean;
}

/** How something turned out, in a word. */
export type Severity = 'good' | 'doubtful' | 'bad' | 'quiet';

const CODES: Readonly<Record<Severity, number>> = { good: 32, doubtful: 33, bad: 31, quiet: 2 };

export type Colorizer = (tone: Severity, text: string) => string;

/** Paints for people, unless they want no colours (`NO_COLOR`, set and not empty: no-color.org). */
export function colorizer({ isTerminal }: Pick<Terminal, 'isTerminal'>, env: Environment): Colorizer {
  const colours = isTerminal && !env['NO_COLOR'];
  return (tone, text) => (colours ? `\u001b[${CODES[tone]}m${text}\u001b[0m` : text);
}

const MAX_QUOTED_LENGTH = 300;

/**
 * A value that somebody else wrote, as JSON on one line of printable ASCII: no token in it, and nothing that a terminal
 * would take for an order.
 */
export function quoteUntrusted(value: unknown): string {
  const text = asciiJson(value);
  return text.length <= MAX_QUOTED_LENGTH ? text : `${text.slice(0, MAX_QUOTED_LENGTH)}…`;
}

/** {@link quoteUntrusted} without a limit, and over several lines where `indent` is given. */
export function asciiJson(value: unknown, indent?: number): string {
  const withoutTokens = (_key: string, part: unknown) => (typeof part === 'string' ? redact(part) : part);
  const text = JSON.stringify(value, withoutTokens, indent) ?? 'undefined';
  return redactJwts(text).replace(/[^\x20-\x7e\n]/g, escaped);
}

/**
 * A line of our own words that may repeat a setting's or a file's: no token in it, and no order to a terminal.
 */
export function stripControl(line: string): string {
  const orders = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
  return redact(line).replace(orders, found => found.split('').map(escaped).join(''));
}

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** A table of two columns: the first as wide as its longest word, the second with its further lines below. */
export function columns(rows: readonly (readonly [first: string, second: string])[], indent = ''): string {
  const width = Math.max(0, ...rows.map(([first]) => first.length));
  const below = ' '.repeat(indent.length + width + 2);
  return rows
    .map(([first, second]) => `${indent}${first.padEnd(width)}  ${second.replaceAll('\n', `\n${below}`)}\n`)
    .join('');
}
