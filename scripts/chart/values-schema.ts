import { settingsJsonSchema } from '../../src/config/help.ts';
import { SETTINGS } from '../../src/config/schema.ts';
import { formerNames } from '../../src/config/setting-names.ts';
import type { ValueEntry } from './values-file.ts';

type Schema = Record<string, unknown>;

/**
 * Returns the chart's name of a setting under `config`: `GATECAR_TOKEN_AUDIENCES` →
 * `tokenAudiences`.
 */
export function chartName(setting: string): string {
  const words = setting.slice('GATECAR_'.length).toLowerCase();
  return words.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** Values that Helm passes from a parent chart to every subchart. */
const FROM_PARENTS: Schema = {
  global: { type: 'object', description: 'Values that a parent chart has for all.' },
  enabled: { type: 'boolean', description: 'For the `condition` of a parent chart; not read here.' },
};

/** Builds `values.schema.json`, which allows every documented value and no other. */
export function valuesSchema(entries: readonly ValueEntry[]): Schema {
  const root = closed({ ...FROM_PARENTS });
  for (const entry of entries) {
    const steps = entry.path.split('.');
    const last = steps.pop() ?? '';
    let at = root['properties'] as Schema;
    for (const step of steps) {
      at[step] ??= closed({});
      at = (at[step] as Schema)['properties'] as Schema;
    }
    at[last] = { description: entry.description, ...shapeOf(entry), ...entry.limits };
  }
  return { $schema: 'http://json-schema.org/draft-07/schema#', title: 'Values of the gatecar chart', ...root };
}

function closed(properties: Schema): Schema {
  return { type: 'object', additionalProperties: false, properties };
}

function shapeOf({ path, value }: ValueEntry): Schema {
  if (path === 'config') return closed(settingProperties());
  if (path === 'extraEnv') return { type: 'array', items: ENVIRONMENT_VARIABLE };
  if (Array.isArray(value)) return { type: 'array', items: { type: 'object' } };
  if (typeof value === 'object') return /(labels|annotations|nodeSelector)$/i.test(path) ? TEXTS : { type: 'object' };
  return { type: typeof value === 'number' ? 'integer' : typeof value };
}

const TEXTS: Schema = { type: 'object', additionalProperties: { type: 'string' } };

/**
 * gatecar exits on an unknown `GATECAR_…` variable, so that a typing error cannot silently drop a
 * setting.
 */
const ENVIRONMENT_VARIABLE: Schema = {
  type: 'object',
  required: ['name'],
  properties: { name: { type: 'string', minLength: 1 } },
  if: { properties: { name: { pattern: '^GATECAR_' } } },
  // biome-ignore lint/suspicious/noThenProperty: JSON Schema calls it so
  then: { properties: { name: { enum: Object.values(SETTINGS).flatMap(one => [one.name, ...formerNames(one)]) } } },
};

function settingProperties(): Schema {
  const properties = settingsJsonSchema()['properties'] as Record<string, Schema>;
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, { 'x-flag': _, 'x-aliases': aliases, ...schema }]) => {
      const current = chartName(name);
      const former = formerNames({ aliases: aliases as readonly string[] }).map(alias => [
        chartName(alias),
        { ...schema, description: `Former name of \`config.${current}\`.`, deprecated: true, 'x-setting': name },
      ]);
      return [[current, { ...schema, 'x-setting': name }], ...former];
    }),
  );
}
