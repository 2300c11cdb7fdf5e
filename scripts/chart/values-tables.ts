import { SETTINGS, type Setting } from '../../src/config/schema.ts';
import type { ValueEntry } from './values-file.ts';
import { chartName } from './values-schema.ts';

/** Returns the chart README's table of values. */
export function valuesTable(entries: readonly ValueEntry[]): string {
  const rows = entries.map(({ path, description, value }) => {
    const shown = path === 'config' ? '[settings](#settings)' : `\`${JSON.stringify(value)}\``;
    return `| \`${path}\` | ${cell(shown)} | ${cell(description)} |`;
  });
  return ['| value | default | meaning |', '|---|---|---|', ...rows].join('\n');
}

/** Returns the chart README's table of the settings under `config`. */
export function configTable(): string {
  const rows = Object.values<Setting<unknown>>(SETTINGS).map(setting => {
    const shown = setting.defaultLabel ?? (setting.default === undefined ? 'none' : `\`${setting.default}\``);
    const rule = setting.type.rule.replaceAll('<', '\\<');
    return `| \`${chartName(setting.name)}\` | ${shown} | ${cell(`${setting.help} Must be ${rule}.`)} |`;
  });
  return ['| `config.` | default | meaning |', '|---|---|---|', ...rows].join('\n');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
