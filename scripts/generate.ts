// Writes what is made from the configuration schema: `config.schema.json` and the README's table of settings.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { settingsJsonSchema, settingsTable } from '../src/config/help.ts';

const root = join(import.meta.dirname, '..');
const readme = join(root, 'README.md');

await writeFile(join(root, 'config.schema.json'), `${JSON.stringify(settingsJsonSchema(), null, 2)}\n`);
const text = await readFile(readme, 'utf8');
const table = `<!-- settings -->\n\n${settingsTable()}\n\n<!-- /settings -->`;
await writeFile(
  readme,
  text.replace(/<!-- settings -->[\s\S]*<!-- \/settings -->/, () => table),
);
