import t from 'tap';
import { REMEDIES } from '../../../src/cli/check/remediation.ts';

t.test('every class of outage has a cause in words and a command to type', async t => {
  for (const [outage, { cause, mend }] of Object.entries(REMEDIES)) {
    t.match(cause, /^[a-z].{10,}[^.]$/, outage);
    t.match(mend, /^(kubectl|gatecar) [a-z]/, outage);
  }
});

t.test('what is ours to mend is told from what is the API server’s', async t => {
  t.match(REMEDIES.unauthorized.cause, "gatecar's own credential");
  t.match(REMEDIES.forbidden.mend, 'kubectl apply -k rbac/');
});
