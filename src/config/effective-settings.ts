import { type Config, SETTINGS, type Setting } from './schema.ts';
import { flagName } from './setting-names.ts';

/**
 * Returns each setting's flag without its dashes, and its value as a user would write it. A setting
 * without a value has a note in parentheses. Secrets are left out.
 */
export function effectiveSettings(config: Config): [flag: string, text: string][] {
  return Object.entries<Setting<unknown>>(SETTINGS).map(([key, setting]) => {
    const value = config[key as keyof Config];
    const { format = String } = setting.type;
    return [flagName(setting), value === undefined ? `(${setting.defaultLabel ?? 'none'})` : format(value)];
  });
}
