import t from 'tap';
import { REMEDIATION } from '../../../src/cli/check/remediation.ts';

t.test('every unavailable cause has a description and a command that fixes it', async t => {
  for (const [outcome, { cause, fix }] of Object.entries(REMEDIATION)) {
    t.match(cause, /^[a-z].{10,}[^.]$/, outcome);
    t.match(fix, /^(kubectl|gatecar) [a-z]/, outcome);
  }
});

t.test('a rejected credential and a missing permission have different fixes', async t => {
  t.match(REMEDIATION.unauthorized.cause, "gatecar's own credential");
  t.match(REMEDIATION.forbidden.fix, /^kubectl apply -k rbac\/ .*helm upgrade .*--set rbac\.create=true$/);
});
