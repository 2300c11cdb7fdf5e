import t from 'tap';
import { REMEDIATION } from '../../../src/cli/check/remediation.ts';

t.test('every class of outage has a cause in words and a command to type', async t => {
  for (const [outage, { cause, fix }] of Object.entries(REMEDIATION)) {
    t.match(cause, /^[a-z].{10,}[^.]$/, outage);
    t.match(fix, /^(kubectl|gatecar) [a-z]/, outage);
  }
});

t.test('what is ours to fix is told from what is the API server’s', async t => {
  t.match(REMEDIATION.unauthorized.cause, "gatecar's own credential");
  t.match(REMEDIATION.forbidden.fix, 'kubectl apply -k rbac/');
});
