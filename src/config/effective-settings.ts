import { MAX_LOGGED_ITEMS } from '../limits/constants.ts';
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

/** What decides which tokens pass. */
export interface PolicyInForce {
  readonly tokenAudiences: readonly string[];
  readonly allowedNamespaces: readonly string[] | 'all';
  readonly allowedServiceAccounts: readonly string[] | 'all';
  readonly cacheTtlMs: number;
}

/**
 * Returns what decides which tokens pass, for the log line at start; nothing in format-only mode.
 * Long lists are cut, and end with the number of the other items.
 */
export function policyInForce(config: Config): PolicyInForce | undefined {
  const { mode, tokenAudiences, allowedNamespaces, allowedServiceAccounts, cacheTtlMs } = config;
  if (mode === 'format-only') return undefined;
  return {
    tokenAudiences: firstItems(tokenAudiences),
    allowedNamespaces: allowedNamespaces === undefined ? 'all' : firstItems(allowedNamespaces),
    allowedServiceAccounts: allowedServiceAccounts === undefined ? 'all' : firstItems(allowedServiceAccounts),
    cacheTtlMs,
  };
}

function firstItems(items: readonly string[]): readonly string[] {
  const more = items.length - MAX_LOGGED_ITEMS;
  return more <= 0 ? items : [...items.slice(0, MAX_LOGGED_ITEMS), `… and ${more} more`];
}
