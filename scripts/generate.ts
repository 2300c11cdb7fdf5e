// Writes the files generated from the configuration schema, the chart's values.yaml, the examples
// and package.json, and draws the pictures of the documentation.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generatedFiles } from './chart/generated.ts';
import { drawnFiles } from './drawings/drawings.ts';

const root = join(import.meta.dirname, '..');

const files = { ...(await generatedFiles()), ...drawnFiles() };
for (const [path, text] of Object.entries(files)) await writeFile(join(root, path), text);
