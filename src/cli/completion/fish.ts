import {
  type CompletedCommand,
  type CompletedFlag,
  completedCommands,
  settingFlags,
  type Values,
} from './completed-words.ts';

/** Returns the completion script for fish. */
export function fishScript(): string {
  const commands = completedCommands();
  const withoutSettings = commands.filter(({ takesSettings }) => !takesSettings).map(({ name }) => name);
  const settings = `not __fish_seen_subcommand_from ${withoutSettings.join(' ')}`;
  return `# fish completion for gatecar. Load it with: gatecar completion fish | source

complete -c gatecar -f
${commands.map(({ name, summary }) => commandLine(name, summary)).join('')}${commandLine('help', 'prints help')}${commandLine('version', 'prints the version')}
${commands.map(ownLines).join('')}
${settingFlags()
  .map(flag => flagLine(flag, settings))
  .join('')}`;
}

function commandLine(name: string, summary: string): string {
  return `complete -c gatecar -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}\n`;
}

function ownLines({ name, flags, operands }: CompletedCommand): string {
  const condition = `__fish_seen_subcommand_from ${name}`;
  const operand = operands === 'none' ? '' : `complete -c gatecar -n ${quoted(condition)}${argumentsOf(operands)}\n`;
  return flags.map(flag => flagLine(flag, condition)).join('') + operand;
}

function flagLine({ name, summary, values, isSwitch }: CompletedFlag, condition: string): string {
  // `-x` asks for a value that is not a file, `-r` for any.
  const value = isSwitch === true ? '' : ` ${values === 'files' ? '-r' : '-x'}${argumentsOf(values)}`;
  return `complete -c gatecar -n ${quoted(condition)} -l ${name.slice(2)}${value} -d ${quoted(summary)}\n`;
}

function argumentsOf(values: Values): string {
  if (values === 'files') return ' -F';
  return values === 'none' ? '' : ` -a ${quoted(values.join(' '))}`;
}

function quoted(text: string): string {
  return `'${text.replace(/['\\]/g, character => `\\${character}`)}'`;
}
