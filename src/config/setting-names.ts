import { SETTINGS, type Setting } from './schema.ts';

/** Returns the flag's name: `GATECAR_TOKEN_AUDIENCES` → `token-audiences`. */
export function flagName(setting: Pick<Setting<unknown>, 'name'>): string {
  return flagOf(setting.name);
}

/** Returns the former names of a setting, which stay accepted as variable and flag. */
export function formerNames(setting: Pick<Setting<unknown>, 'aliases'>): string[] {
  return setting.aliases.filter(alias => alias.startsWith('GATECAR_'));
}

/** Returns every setting by each of its flags, the former ones included. */
export function settingsByFlag(): Map<string, Setting<unknown>> {
  return new Map(
    Object.values<Setting<unknown>>(SETTINGS).flatMap(setting =>
      [setting.name, ...formerNames(setting)].map(name => [flagOf(name), setting] as const),
    ),
  );
}

function flagOf(name: string): string {
  return name.slice('GATECAR_'.length).toLowerCase().replaceAll('_', '-');
}
