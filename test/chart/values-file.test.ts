import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadYaml } from '@kubernetes/client-node';
import t from 'tap';
import { readValues } from '../../scripts/chart/values-file.ts';
import { chartName } from '../../scripts/chart/values-schema.ts';
import { readConfig } from '../../src/config/load.ts';
import { SETTINGS } from '../../src/config/schema.ts';

const text = readFileSync(join(import.meta.dirname, '../../charts/gatecar/values.yaml'), 'utf8');

t.test('a documented value is read with its path, description, limits and default', async t => {
  const values = `# A header without values.

image:
  # -- Where it is,
  # in two lines.
  # @schema {"minLength": 1}
  repository: here
# -- A group.
resources:
  limits:
    # Not documented, and part of the group.
    cpu: 1
none: 1
# -- A list.
list:
  - name: x
# -- The last.
last: true
`;
  t.strictSame(readValues(values), [
    { path: 'image.repository', description: 'Where it is, in two lines.', limits: { minLength: 1 }, value: 'here' },
    { path: 'resources', description: 'A group.', limits: {}, value: { limits: { cpu: 1 } } },
    { path: 'list', description: 'A list.', limits: {}, value: [{ name: 'x' }] },
    { path: 'last', description: 'The last.', limits: {}, value: true },
  ]);
});

t.test('every value of the chart has a description', async t => {
  const documented = readValues(text).map(({ path }) => path);
  const leaves = (value: unknown, path: string): string[] =>
    typeof value !== 'object' || value === null || documented.includes(path)
      ? [path]
      : Object.entries(value).flatMap(([key, inner]) => leaves(inner, path === '' ? key : `${path}.${key}`));
  t.strictSame(leaves(loadYaml(text), ''), documented);
  for (const { path, description } of readValues(text)) t.match(description, /^.+[.)]$/, path);
});

t.test('the settings in the chart’s default values equal gatecar’s defaults', async t => {
  const { config } = loadYaml<{ config: Record<string, unknown> }>(text);
  const settings = Object.values(SETTINGS).filter(({ name }) => chartName(name) in config);
  t.equal(settings.length, Object.keys(config).length);
  const env = Object.fromEntries(settings.map(({ name }) => [name, String(config[chartName(name)])]));
  t.strictSame(readConfig([], env), readConfig([], {}));
});
