import { SETTINGS, type Setting } from './schema.ts';
import { flagName, formerNames } from './setting-names.ts';

const ALL: readonly Setting<unknown>[] = Object.values(SETTINGS);

/** Returns the text for a setting's default. */
function defaultOf(setting: Setting<unknown>): string {
  return setting.defaultLabel ?? setting.default ?? 'none';
}

/**
 * Returns the text of `gatecar --help`.
 *
 * @param commands the commands, each with one line about it.
 */
export function help(commands: Readonly<Record<string, string>>): string {
  const settings = ALL.map(setting => {
    const names = [setting.name, ...setting.aliases].join(', ');
    const text = wrapText(`${setting.help} Must be ${setting.type.rule}.`.replaceAll('`', ''), 94);
    return [
      `  --${flagName(setting)}`,
      `      ${names} (default: ${defaultOf(setting)})`,
      ...text.map(line => `      ${line}`),
    ];
  });
  const commandList = Object.entries(commands).map(([name, about]) => `  ${name.padEnd(15)}${about}`);
  return `gatecar: HTTP auth sidecar for Kubernetes. A bearer token in, identity headers out.

Usage: gatecar [serve] [--setting=value ...]
       gatecar dev [--setting=value ...]
       gatecar check [--setting=value ...]
       gatecar explain [FILE] [--setting=value ...]
       gatecar gateway NAME [FILE] [--setting=value ...]
       gatecar top [--url URL] [--once]
       gatecar completion bash|zsh|fish

${commandList.join('\n')}
  help, -h       this text; gatecar help COMMAND prints that of a command
  version, -v    the version; --help and --version work too

SIGTERM, SIGINT and SIGHUP drain; a second one ends the process at once.
Exit code: 0 drained, 1 failure, 2 usage or settings, 128 + n for a second signal n.

Example: gatecar serve --token-audiences=bindcar --allowed-namespaces=dns-system,ci

Settings, each a flag and an environment variable; a flag beats the environment. Lists split on
commas and newlines. Durations: 500ms, 10s, 2m.

${settings.map(lines => lines.join('\n')).join('\n\n')}
`;
}

/** Returns a table of settings in Markdown. Former names are left out of it. */
export function settingsTable(settings: readonly Setting<unknown>[] = ALL): string {
  const rows = settings.map(setting => {
    const former = formerNames(setting);
    const others = setting.aliases.filter(alias => !former.includes(alias));
    const also = others.map(alias => `\`${alias}\``).join(', ');
    const shown = setting.defaultLabel ?? (setting.default === undefined ? 'none' : `\`${setting.default}\``);
    // Outside of code, Markdown renders `<namespace>` as an HTML tag, which is invisible.
    const rule = setting.type.rule.replaceAll('<', '\\<');
    return `| \`${setting.name}\` | ${shown} | ${also} | ${setting.help} Must be ${rule}. |`;
  });
  return ['| setting | default | also | meaning |', '|---|---|---|---|', ...rows].join('\n');
}

/** Returns the JSON schema of the settings: for the chart, and for checks before a roll-out. */
export function settingsJsonSchema(): Record<string, unknown> {
  const properties = ALL.map(setting => [
    setting.name,
    {
      description: setting.help,
      ...setting.type.json,
      ...(setting.default !== undefined && { 'x-default': setting.default }),
      'x-flag': `--${flagName(setting)}`,
      'x-aliases': setting.aliases,
      'x-rule': `must be ${setting.type.rule}`,
    },
  ]);
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'gatecar settings',
    type: 'object',
    additionalProperties: false,
    properties: Object.fromEntries(properties),
  };
}

/** Breaks a text at spaces into lines of at most `width` characters, unless a word is longer. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
