import { flagName, SETTINGS, type Setting } from './schema.ts';

/** One argument as it was given, and what it sets. */
export interface Argument {
  /** As given, without what follows a `=`: there may be a secret that was meant for another setting. */
  readonly given: string;
  /** The flag without its dashes; empty for what is no flag. */
  readonly name: string;
  readonly setting: Setting<unknown> | undefined;
  /** The flag's value; `undefined` where it has none. */
  readonly text: string | undefined;
}

const FLAG = /^--([^=]+)(?:=([\s\S]*))?$/;

/** Longer ones may be credentials; shorter ones are mistyped words. */
const SECRET_LENGTH = 16;

/** Takes the next argument off a list that has one, with its value where that stands by itself. */
export function readArgument(rest: string[], known: ReadonlyMap<string, Setting<unknown>>): Argument {
  const arg = rest.shift() as string;
  const [, name = '', inline] = FLAG.exec(arg) ?? [];
  const setting = known.get(name);
  const given = arg.replace(/=[\s\S]*/, '');
  if (setting !== undefined) return { given, name, setting, text: inline ?? valueAfter(setting, rest) };
  // What follows an unknown flag is most likely its value and no second fault.
  const hasValue = name !== '' && inline === undefined && rest[0]?.startsWith('--') === false;
  return { given, name, setting, text: hasValue ? rest.shift() : inline };
}

/** Takes a flag's value from the arguments after it. A flag is nobody's value: `--a --b` is an `a` left out. */
function valueAfter({ type }: Setting<unknown>, rest: string[]): string | undefined {
  const [next] = rest;
  if (type.json['type'] === 'boolean' && next !== 'true' && next !== 'false') return 'true';
  return next?.startsWith('--') ? undefined : rest.shift();
}

/** An argument as it may be shown: a token that somebody wrote there is not repeated. */
export function redactArgument(given: string): string {
  if (given.length < SECRET_LENGTH || /^--?[a-zA-Z][a-zA-Z-]{0,40}$/.test(given)) return given;
  return `(an argument of ${given.length} characters, which may be a secret)`;
}

/** What belongs to the command itself, apart from the settings. */
export interface CommandLine {
  /** The command's own flags that were given, with their values; `undefined` where there is none. */
  readonly own: ReadonlyMap<string, string | undefined>;
  /** What is neither a flag nor a flag's value. */
  readonly operands: readonly string[];
  /** All else, for `readConfig`. */
  readonly settings: readonly string[];
}

/** Parts a command's own flags, each of which takes a value, and its operands from the settings. */
export function readCommandLine(args: readonly string[], ownFlags: readonly string[]): CommandLine {
  const known = new Map(Object.values<Setting<unknown>>(SETTINGS).map(setting => [flagName(setting), setting]));
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
