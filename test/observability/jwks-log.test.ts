import t from 'tap';
import { logJwksTransitions } from '../../src/observability/jwks-log.ts';

t.test('keys that cannot be read are said once, and once when they can', async t => {
  const lines: unknown[] = [];
  const log = { warn: (...line: unknown[]) => lines.push(line), info: (...line: unknown[]) => lines.push(line) };
  const tell = logJwksTransitions(log as unknown as Parameters<typeof logJwksTransitions>[0]);
  for (const problem of [undefined, undefined, 'a', 'a', 'b', undefined, undefined, 'c']) tell(problem);
  const cannot = "the cluster's keys cannot be read: what they would tell is left to the API server";
  t.strictSame(lines, [
    [{ problem: 'a' }, cannot],
    ["the cluster's keys can be read again"],
    [{ problem: 'c' }, cannot],
  ]);
});
