// Writes the files generated from the configuration schema, the chart's values.yaml, the examples
// and package.json.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generatedFiles } from './chart/generated.ts';

const root = join(import.meta.dirname, '..');

for (const [path, text] of Object.entries(await generatedFiles())) await writeFile(join(root, path), text);
