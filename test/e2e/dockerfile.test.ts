import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { tempDir } from '../fixtures/temp-dir.ts';
import { gatewayBinary, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

const root = join(import.meta.dirname, '../..');

t.test('hadolint finds no fault in the Dockerfile', { skip: skipWithout(gatewayMissing('hadolint')) }, async t => {
  // Ignores the user's own configuration, which may disable rules.
  const env = { HOME: tempDir(t), PATH: process.env['PATH'] };
  const lint = (file: string, input = '') =>
    spawnSync(gatewayBinary('hadolint') ?? '', [file], { cwd: root, env, input, encoding: 'utf8' });
  const faulty = lint('-', 'FROM debian\nRUN cd /tmp\n');
  t.match(faulty, { status: 1, stdout: /DL3006.*DL3003/s }, 'hadolint finds faults in another Dockerfile');
  t.match(lint('Dockerfile'), { status: 0, stdout: '', stderr: '' });
});
