import { SETTINGS, type Setting } from '../../config/schema.ts';
import { flagName } from '../../config/setting-names.ts';
import { path, paths } from '../../config/setting-types.ts';
import { COMMANDS, type Command } from '../command-names.ts';
import { GATEWAYS } from '../gateway-config/templates.ts';

/** What a shell offers for a value: these words, the names of files, or nothing. */
export type Values = readonly string[] | 'files' | 'none';

/** A flag that a shell offers. */
export interface CompletedFlag {
  /** With its dashes. */
  readonly name: string;
  readonly summary: string;
  readonly values: Values;
  /** Whether it may stand without a value. */
  readonly isSwitch?: boolean;
}

/** A command that a shell offers. */
export interface CompletedCommand {
  readonly name: Command;
  readonly summary: string;
  /** Without the flags of {@link settingFlags}. */
  readonly flags: readonly CompletedFlag[];
  /** Whether it takes the settings. */
  readonly takesSettings: boolean;
  readonly operands: Values;
}

/** The shells for which there is a script. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

const HELP: CompletedFlag = { name: '--help', summary: 'Prints help.', values: 'none', isSwitch: true };
const OUTPUT: CompletedFlag = { name: '--output', summary: 'The format of the result.', values: ['text', 'json'] };

const OWN_FLAGS: Readonly<Record<Command, readonly CompletedFlag[]>> = {
  serve: [],
  dev: [],
  check: [OUTPUT],
  explain: [OUTPUT, { name: '--file', summary: 'The file that contains the token.', values: 'files' }],
  gateway: [],
  top: [
    { name: '--url', summary: 'The URL of the ops listener.', values: 'none' },
    { name: '--once', summary: 'Prints one page and exits.', values: 'none', isSwitch: true },
  ],
  completion: [],
};

const OPERANDS: Partial<Readonly<Record<Command, Values>>> = {
  explain: 'files',
  gateway: Object.keys(GATEWAYS),
  completion: SHELLS,
};

/** Returns all commands. */
export function completedCommands(): CompletedCommand[] {
  return (Object.keys(COMMANDS) as Command[]).map(name => ({
    name,
    summary: COMMANDS[name],
    flags: [...OWN_FLAGS[name], HELP],
    takesSettings: name !== 'completion',
    operands: OPERANDS[name] ?? 'none',
  }));
}

/** Returns the flags of all settings. */
export function settingFlags(): CompletedFlag[] {
  return Object.values<Setting<unknown>>(SETTINGS).map(setting => ({
    name: `--${flagName(setting)}`,
    summary: firstSentence(setting.help.replaceAll('`', '')),
    values: valuesOf(setting),
    ...(setting.type.json['type'] === 'boolean' && { isSwitch: true }),
  }));
}

function firstSentence(text: string): string {
  return text.split(/(?<=\.) /, 1)[0] as string;
}

function valuesOf({ type }: Setting<unknown>): Values {
  if (type === path || type === paths) return 'files';
  if (type.json['type'] === 'boolean') return ['true', 'false'];
  // The rule names the current words, without the former ones that are accepted too.
  const [, words] = /^one of (.+)$/.exec(type.rule) ?? [];
  return words?.split(', ') ?? 'none';
}
