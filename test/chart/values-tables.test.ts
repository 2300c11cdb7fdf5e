import t from 'tap';
import { configTable, valuesTable } from '../../scripts/chart/values-tables.ts';
import { SETTINGS } from '../../src/config/schema.ts';

t.test('a row of the values table has path, default as JSON and description', async t => {
  const about = { description: 'One | other.', limits: {} };
  const rows = valuesTable([
    { path: 'a.b', value: { c: 'x|y' }, ...about },
    { path: 'config', value: {}, ...about },
  ]).split('\n');
  t.strictSame(rows, [
    '| value | default | meaning |',
    '|---|---|---|',
    '| `a.b` | `{"c":"x\\|y"}` | One \\| other. |',
    '| `config` | [settings](#settings) | One \\| other. |',
  ]);
});

t.test('the settings table of the chart has a row for each setting, with its rule', async t => {
  const [, , ...rows] = configTable().split('\n');
  t.equal(rows.length, Object.keys(SETTINGS).length);
  t.ok(
    rows.includes(
      `| \`cacheNegativeTtl\` | \`2s\` | ${SETTINGS.cacheNegativeTtlMs.help} Must be a duration from 0 to 10m, such as 500ms, 10s or 2m. |`,
    ),
  );
  t.match(configTable(), '| `allowedNamespaces` | all | ');
  t.match(configTable(), '| `kubeContext` | none | ');
  t.match(configTable(), 'one system:serviceaccount:\\<namespace>:\\<name> (an', 'HTML is escaped');
});
