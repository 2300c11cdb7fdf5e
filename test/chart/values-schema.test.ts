import t from 'tap';
import type { ValueEntry } from '../../scripts/chart/values-file.ts';
import { chartName, valuesSchema } from '../../scripts/chart/values-schema.ts';
import { settingsJsonSchema } from '../../src/config/help.ts';
import { SETTINGS } from '../../src/config/schema.ts';
import { formerNames } from '../../src/config/setting-names.ts';

type Schema = Readonly<Record<string, unknown>>;

const entry = (path: string, value: unknown, limits: Schema = {}): ValueEntry => ({
  path,
  description: `About ${path}.`,
  limits,
  value,
});

const propertiesOf = (schema: Schema): Record<string, Schema> => schema['properties'] as Record<string, Schema>;

t.test('each value has the type of its default, and groups reject unknown values', async t => {
  const schema = valuesSchema([
    entry('image.tag', '', { maxLength: 9 }),
    entry('image.pull', true),
    entry('replicaCount', 2),
    entry('tolerations', []),
    entry('ports', [1], { items: { type: 'integer' } }),
    entry('resources', {}),
    entry('podLabels', {}),
  ]);
  t.equal(schema['additionalProperties'], false);
  const { image, global, enabled, ...rest } = propertiesOf(schema);
  t.strictSame(image, {
    type: 'object',
    additionalProperties: false,
    properties: {
      tag: { description: 'About image.tag.', type: 'string', maxLength: 9 },
      pull: { description: 'About image.pull.', type: 'boolean' },
    },
  });
  t.match(
    { global, enabled },
    { global: { type: 'object' }, enabled: { type: 'boolean' } },
    'values that parent charts pass on',
  );
  t.strictSame(rest, {
    replicaCount: { description: 'About replicaCount.', type: 'integer' },
    tolerations: { description: 'About tolerations.', type: 'array', items: { type: 'object' } },
    ports: { description: 'About ports.', type: 'array', items: { type: 'integer' } },
    resources: { description: 'About resources.', type: 'object' },
    podLabels: { description: 'About podLabels.', type: 'object', additionalProperties: { type: 'string' } },
  });
});

t.test('config accepts exactly the settings by their chart names, with their limits', async t => {
  const config = propertiesOf(valuesSchema([entry('config', {})]))['config'] ?? {};
  t.equal(config['additionalProperties'], false);
  const settings = Object.values(SETTINGS).map(({ name }) => name);
  const former = Object.values(SETTINGS).flatMap(formerNames);
  const names = Object.keys(propertiesOf(config));
  t.strictSame(
    names.filter(name => propertiesOf(config)[name]?.['deprecated'] !== true),
    settings.map(chartName),
  );
  t.strictSame(
    names.filter(name => propertiesOf(config)[name]?.['deprecated'] === true),
    former.map(chartName),
  );
  const limits = propertiesOf(settingsJsonSchema());
  for (const name of settings) {
    const { 'x-setting': setting, ...schema } = propertiesOf(config)[chartName(name)] ?? {};
    const { 'x-flag': _, 'x-aliases': __, ...expected } = limits[name] ?? {};
    t.equal(setting, name);
    t.strictSame(schema, expected, name);
  }
});

t.test('setting names become camelCase chart names', async t => {
  t.equal(chartName('GATECAR_TOKEN_AUDIENCES'), 'tokenAudiences');
  t.equal(chartName('GATECAR_LISTEN'), 'listen');
  t.equal(chartName('GATECAR_KUBE_CA_FILE'), 'kubeCaFile');
});

t.test('extraEnv accepts GATECAR_ variables only if they are settings', async t => {
  const { items } = propertiesOf(valuesSchema([entry('extraEnv', [])]))['extraEnv'] as { items: Schema };
  t.match(items, {
    required: ['name'],
    if: { properties: { name: { pattern: '^GATECAR_' } } },
  });
  t.match(JSON.stringify(items), '"enum":["GATECAR_LISTEN",');
});
