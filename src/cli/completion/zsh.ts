import {
  type CompletedCommand,
  type CompletedFlag,
  completedCommands,
  settingFlags,
  type Values,
} from './completed-words.ts';

/** Returns the completion script for zsh. */
export function zshScript(): string {
  const commands = completedCommands();
  return `#compdef gatecar
# zsh completion for gatecar. Load it with: source <(gatecar completion zsh)

_gatecar() {
  local curcontext=$curcontext state line
  typeset -A opt_args
  local -a settings commands
  settings=(
${settingFlags().map(specOf).join('')}  )
  commands=(
${commands.map(({ name, summary }) => `    ${quoted(`${name}:${escaped(summary)}`)}\n`).join('')}    'help:prints help' 'version:prints the version'
  )
  _arguments -C $settings '--help[Prints help.]' '--version[Prints the version.]' \\
    '1: :->command' '*:: :->rest'
  case $state in
    command) _describe command commands ;;
    rest)
      case $line[1] in
${commands.map(commandCase).join('')}      esac ;;
  esac
}

if [[ $funcstack[1] == _gatecar ]]; then _gatecar "$@"; else compdef _gatecar gatecar; fi
`;
}

function specOf(flag: CompletedFlag): string {
  return `    ${argumentOf(flag)}\n`;
}

function argumentOf({ name, summary, values, isSwitch }: CompletedFlag): string {
  const takesNone = isSwitch === true && values === 'none';
  const value = takesNone ? '' : `${isSwitch === true ? '::' : ':'}value:${actionOf(values)}`;
  return quoted(`${name}${takesNone ? '' : isSwitch === true ? '=-' : '='}[${escaped(summary)}]${value}`);
}

function commandCase({ name, flags, takesSettings, operands }: CompletedCommand): string {
  const settings = takesSettings ? '$settings ' : '';
  const operand = operands === 'none' ? '' : ` ${quoted(`1:operand:${actionOf(operands)}`)}`;
  return `        ${name}) _arguments ${settings}${flags.map(argumentOf).join(' ')}${operand} ;;\n`;
}

function actionOf(values: Values): string {
  if (values === 'files') return '_files';
  return values === 'none' ? ' ' : `(${values.join(' ')})`;
}

/** Escapes what a specification of `_arguments` gives a meaning to. */
function escaped(text: string): string {
  return text.replace(/[\\[\]:]/g, character => `\\${character}`);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
