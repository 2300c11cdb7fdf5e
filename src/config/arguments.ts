import { MIN_SECRET_LENGTH } from '../limits/constants.ts';
import type { Setting } from './schema.ts';
import { settingsByFlag } from './setting-names.ts';

/** One argument as given, and the setting that it sets. */
export interface Argument {
  /** As given, without the text after a `=`, which may be a secret for another setting. */
  readonly given: string;
  /** The flag without its dashes; empty if the argument is not a flag. */
  readonly name: string;
  readonly setting: Setting<unknown> | undefined;
  /** The flag's value; `undefined` if it has none. */
  readonly text: string | undefined;
}

const FLAG = /^--([^=]+)(?:=([\s\S]*))?$/;

/**
 * Removes the next argument from a non-empty list. Also removes its value if that is a separate
 * argument.
 */
export function readArgument(rest: string[], known: ReadonlyMap<string, Setting<unknown>>): Argument {
  const arg = rest.shift() as string;
  const [, name = '', inline] = FLAG.exec(arg) ?? [];
  const setting = known.get(name);
  const given = arg.replace(/=[\s\S]*/, '');
  if (setting !== undefined) return { given, name, setting, text: inline ?? valueAfter(setting, rest) };
  // The argument after an unknown flag is most likely its value, so it is not reported as well.
  const hasValue = name !== '' && inline === undefined && rest[0]?.startsWith('--') === false;
  return { given, name, setting, text: hasValue ? rest.shift() : inline };
}

/**
 * Removes a flag's value from the following arguments. A flag is never taken as a value:
 * in `--a --b`, `a` has no value.
 */
function valueAfter({ type }: Setting<unknown>, rest: string[]): string | undefined {
  const [next] = rest;
  if (type.json['type'] === 'boolean' && next !== 'true' && next !== 'false') return 'true';
  return next?.startsWith('--') ? undefined : rest.shift();
}

/** Returns an argument for error messages, without a token that the user may have passed. */
export function redactArgument(given: string): string {
  // A longer argument may be a credential; a shorter one is a mistyped word.
  if (given.length < MIN_SECRET_LENGTH || /^--?[a-zA-Z][a-zA-Z-]{0,40}$/.test(given)) return given;
  return `(an argument of ${given.length} characters, which may be a secret)`;
}

/** The arguments of a command, separated from the settings. */
export interface CommandLine {
  /** The given flags of the command itself, with their values; `undefined` for no value. */
  readonly own: ReadonlyMap<string, string | undefined>;
  /** The arguments that are neither flags nor values of flags. */
  readonly operands: readonly string[];
  /** All other arguments, for `readConfig`. */
  readonly settings: readonly string[];
}

/**
 * Separates a command's own flags and operands from the settings. Each of the command's own flags
 * takes a value.
 */
export function readCommandLine(args: readonly string[], ownFlags: readonly string[]): CommandLine {
  const known = settingsByFlag();
  const own = new Map<string, string | undefined>();
  const operands: string[] = [];
  const settings: string[] = [];
  const rest = [...args];
  while (rest.length > 0) {
    const taken = [...rest];
    const { name, text } = readArgument(rest, known);
    if (ownFlags.includes(name)) own.set(name, text);
    else if (name === '') operands.push(taken[0] as string);
    else settings.push(...taken.slice(0, taken.length - rest.length));
  }
  return { own, operands, settings };
}
