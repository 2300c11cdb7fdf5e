import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { gatewayBinary, gatewayMissing, type Linter } from './fixtures/support/gateway-binaries.ts';
import { lint } from './fixtures/support/lint.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// The workflows run on GitHub alone. Here they are linted, and so are the scripts that they call.

const ROOT = join(import.meta.dirname, '../..');
const WORKFLOWS = globSync('.github/workflows/*.yml', { cwd: ROOT });
const SCRIPTS = ['.ci/run', ...globSync(['scripts/*', 'examples/**/*'], { cwd: ROOT })].filter(isShellScript);

const BAD_WORKFLOW = `
on: pull_request_target
jobs:
  bad:
    runs-on: ubuntu-24.04
    steps:
      - run: echo \${{ github.event.pull_request.title }}
      - run: echo \${{ steps.none.outputs.x }}
`;

t.test('all workflows are found', async t => {
  t.ok(WORKFLOWS.length >= 5, WORKFLOWS.join(', '));
});

t.test(
  'actionlint finds nothing in the workflows',
  { skip: skipWithout(missing('actionlint', 'shellcheck')) },
  async t => {
    const options = ['-no-color', '-shellcheck', gatewayBinary('shellcheck') ?? ''];
    t.match(lint(t, 'actionlint', [...options, '-'], BAD_WORKFLOW), { status: 1, stdout: /"none" is not defined/ });
    t.match(lint(t, 'actionlint', [...options, ...WORKFLOWS]), { status: 0, stdout: '', stderr: '' });
  },
);

t.test('zizmor finds nothing in the workflows', { skip: skipWithout(missing('zizmor')) }, async t => {
  const options = ['--offline', '--quiet', '--no-config', '--color=never', '--persona=pedantic'];
  const bad = lint(t, 'zizmor', [...options, '-'], BAD_WORKFLOW);
  t.match(bad, { stdout: /dangerous-triggers/ });
  t.match(bad, { stdout: /template-injection/ });
  t.match(lint(t, 'zizmor', [...options, '.github']), { status: 0, stdout: /^No findings to report/ });
});

t.test('shellcheck finds nothing in the scripts', { skip: skipWithout(missing('shellcheck')) }, async t => {
  const options = ['--norc', '--severity=warning'];
  t.match(lint(t, 'shellcheck', [...options, '-'], '#!/bin/sh\ncd "$1"\n'), { status: 1, stdout: /SC2164/ });
  t.ok(SCRIPTS.includes('scripts/release'), SCRIPTS.join(', '));
  t.match(lint(t, 'shellcheck', [...options, ...SCRIPTS]), { status: 0, stdout: '', stderr: '' });
});

t.test('every action is pinned by a commit, with its version in a comment', async t => {
  for (const file of WORKFLOWS) {
    const uses = readFileSync(join(ROOT, file), 'utf8').match(/^.*\buses:.*$/gm) ?? [];
    t.not(uses.length, 0, file);
    for (const line of uses)
      t.match(line, /uses: [\w.-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, `${file}: ${line}`);
  }
});

t.test(
  'only the release and Scorecard get an identity to sign with, and no workflow has permissions by default',
  async t => {
    const text = (file: string) => readFileSync(join(ROOT, file), 'utf8');
    const signing = WORKFLOWS.filter(file => text(file).includes('id-token: write')).sort();
    // Scorecard signs the results that it publishes.
    t.strictSame(signing, ['.github/workflows/release.yml', '.github/workflows/scorecard.yml']);
    for (const file of WORKFLOWS) t.match(text(file), /^permissions: \{\}$/m, file);
  },
);

function missing(...tools: readonly Linter[]): string | undefined {
  return tools.map(gatewayMissing).find(reason => reason !== undefined);
}

function isShellScript(path: string): boolean {
  try {
    return /^#!.*\b(ba)?sh\b/.test(readFileSync(join(ROOT, path), 'utf8'));
  } catch {
    return false; // a directory
  }
}
