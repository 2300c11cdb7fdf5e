import t from 'tap';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { lint } from './fixtures/support/lint.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

t.test('hadolint finds no fault in the Dockerfile', { skip: skipWithout(gatewayMissing('hadolint')) }, async t => {
  const faulty = lint(t, 'hadolint', ['-'], 'FROM debian\nRUN cd /tmp\n');
  t.match(faulty, { status: 1, stdout: /DL3006.*DL3003/s }, 'hadolint finds faults in another Dockerfile');
  t.match(lint(t, 'hadolint', ['Dockerfile']), { status: 0, stdout: '', stderr: '' });
});
