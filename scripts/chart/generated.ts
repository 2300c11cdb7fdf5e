import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { settingsJsonSchema } from '../../src/config/help.ts';
import { auditSchema } from '../audit-schema.ts';
import { dashboard } from '../dashboard/dashboard.ts';
import { gatewayPages } from '../docs/gateway-pages.ts';
import { formerNamesTable, groupedSettings } from '../docs/settings-page.ts';
import { readValues } from './values-file.ts';
import { valuesSchema } from './values-schema.ts';
import { configTable, valuesTable } from './values-tables.ts';

const ROOT = join(import.meta.dirname, '../..');
const CHART = 'charts/gatecar';

/** Files that name the image, with the version as its tag. */
const TAGGED = [
  'README.md',
  'docs/getting-started.md',
  'docs/operations.md',
  'examples/kubectl-proxy/deployment.yaml',
] as const;

/** Returns the text of every file with generated content, by its path in the project. */
export async function generatedFiles(): Promise<Readonly<Record<string, string>>> {
  const read = (path: string) => readFile(join(ROOT, path), 'utf8');
  const entries = readValues(await read(`${CHART}/values.yaml`));
  const { version } = JSON.parse(await read('package.json'));
  const chartReadme = between(await read(`${CHART}/README.md`), 'values', valuesTable(entries));
  return {
    'config.schema.json': json(settingsJsonSchema()),
    'audit.schema.json': json(auditSchema()),
    'docs/configuration.md': between(
      between(await read('docs/configuration.md'), 'settings', groupedSettings()),
      'former names',
      formerNamesTable(),
    ),
    ...(await gatewayPages()),
    ...(await withTags(TAGGED, version)),
    Dockerfile: (await read('Dockerfile')).replace(/^ARG VERSION=.*$/m, `ARG VERSION=${version}`),
    [`${CHART}/values.schema.json`]: json(valuesSchema(entries)),
    [`${CHART}/README.md`]: between(chartReadme, 'settings', configTable()),
    [`${CHART}/files/dashboard.json`]: json(dashboard()),
    [`${CHART}/Chart.yaml`]: withVersion(await read(`${CHART}/Chart.yaml`), version),
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Replaces the text between `<!-- name -->` and `<!-- /name -->`. */
function between(text: string, name: string, part: string): string {
  const marks = new RegExp(`<!-- ${name} -->[\\s\\S]*<!-- /${name} -->`);
  if (!marks.test(text)) throw new Error(`no place for ${name}`);
  return text.replace(marks, () => `<!-- ${name} -->\n\n${part}\n\n<!-- /${name} -->`);
}

/** Sets the image tag to the version: the reader must push the image that the chart pulls. */
async function withTags(paths: readonly string[], version: string): Promise<Readonly<Record<string, string>>> {
  const texts = paths.map(async path => {
    const text = await readFile(join(ROOT, path), 'utf8');
    return [path, text.replaceAll(/(registry\.example\/gatecar):[\w.-]+/g, `$1:${version}`)] as const;
  });
  return Object.fromEntries(await Promise.all(texts));
}

/** Sets both versions, because chart and application are released together. */
function withVersion(chart: string, version: string): string {
  return chart
    .replace(/^version: .*$/m, `version: ${version}`)
    .replace(/^appVersion: .*$/m, `appVersion: "${version}"`);
}
