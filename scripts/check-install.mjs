// Runs before the commands of the README, with any Node.js. Without the packages, they would fail
// with an error that does not say what to do.
import { existsSync } from 'node:fs';

if (!existsSync(new URL('../node_modules/node', import.meta.url))) {
  process.stderr.write('gatecar: run `npm ci` first. It installs the packages, Node.js 24 included.\n');
  process.exit(1);
}
