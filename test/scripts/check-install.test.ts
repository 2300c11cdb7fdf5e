import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tempDir } from '../fixtures/temp-dir.ts';

const ROOT = join(import.meta.dirname, '../..');

t.test('before npm ci, the commands of the README say what to do; afterwards, nothing is printed', async t => {
  const directory = tempDir(t);
  mkdirSync(join(directory, 'scripts'));
  const script = join(directory, 'scripts/check-install.mjs');
  copyFileSync(join(ROOT, 'scripts/check-install.mjs'), script);
  const run = () => spawnSync(process.execPath, [script], { encoding: 'utf8' });
  t.match(run(), {
    status: 1,
    stdout: '',
    stderr: 'gatecar: run `npm ci` first. It installs the packages, Node.js 24 included.\n',
  });
  mkdirSync(join(directory, 'node_modules/node'), { recursive: true });
  t.match(run(), { status: 0, stdout: '', stderr: '' });
});

t.test('the check runs before each command that needs the packages', async t => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const name of ['start', 'dev', 'build', 'test', 'test:e2e']) {
    t.equal(scripts[`pre${name}`], 'node scripts/check-install.mjs', name);
  }
});
