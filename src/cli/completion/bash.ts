import {
  type CompletedCommand,
  type CompletedFlag,
  completedCommands,
  settingFlags,
  type Values,
} from './completed-words.ts';

/** Leaves it to bash to complete the name of a file. bash before 4.0 has no `compopt`. */
const FILES = 'compopt -o default 2>/dev/null; return';

/** Returns the completion script for bash. */
export function bashScript(): string {
  const commands = completedCommands();
  const flags = [...settingFlags(), ...commands.flatMap(command => command.flags)];
  const byName = [...new Map(flags.map(flag => [flag.name, flag])).values()];
  return `# bash completion for gatecar. Load it with: source <(gatecar completion bash)

_gatecar() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} words='' flag=''
  COMPREPLY=()
  # In "--flag=value", bash takes the "=" as a word of its own.
  if [[ $cur == '=' ]]; then
    flag=$prev cur=''
  elif [[ $prev == '=' && COMP_CWORD -gt 2 ]]; then
    flag=\${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $cur != -* ]]; then
    flag=$prev
  fi
  case $flag in
${byName
  .filter(({ values }) => typeof values !== 'string')
  .map(flagCase)
  .join('')}    ${filesFlags(byName)}) ${FILES} ;;
    ${valueFlags(byName)}) return ;;
  esac
  local settings='${settingFlags()
    .map(({ name }) => name)
    .join(' ')}'
  if [[ COMP_CWORD -eq 1 && $cur != -* ]]; then
    words='${commands.map(({ name }) => name).join(' ')} help version'
  else
    case \${COMP_WORDS[1]} in
${commands.map(commandCase).join('')}      *) words="$settings --help --version" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}

complete -F _gatecar gatecar
`;
}

function flagCase({ name, values }: CompletedFlag): string {
  return `    ${name}) COMPREPLY=($(compgen -W '${wordsOf(values)}' -- "$cur")); return ;;\n`;
}

function filesFlags(flags: readonly CompletedFlag[]): string {
  return flags
    .filter(({ values }) => values === 'files')
    .map(({ name }) => name)
    .join(' | ');
}

function valueFlags(flags: readonly CompletedFlag[]): string {
  return flags
    .filter(({ values, isSwitch }) => values === 'none' && isSwitch !== true)
    .map(({ name }) => name)
    .join(' | ');
}

function commandCase({ name, flags, takesSettings, operands }: CompletedCommand): string {
  const own = [...flags.map(flag => flag.name), ...(takesSettings ? ['$settings'] : [])].join(' ');
  const otherwise = operands === 'files' ? FILES : `words='${wordsOf(operands)}'`;
  return `      ${name}) if [[ $cur == -* ]]; then words="${own}"; else ${otherwise}; fi ;;\n`;
}

function wordsOf(values: Values): string {
  return typeof values === 'string' ? '' : values.join(' ');
}
