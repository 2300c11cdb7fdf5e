import t from 'tap';
import { logJwksTransitions } from '../../src/observability/jwks-log.ts';

t.test('keys that cannot be read are said once, and once when they can', async t => {
  const lines: unknown[] = [];
  const log = { warn: (...line: unknown[]) => lines.push(line), info: (...line: unknown[]) => lines.push(line) };
  const tell = logJwksTransitions(log as unknown as Parameters<typeof logJwksTransitions>[0]);
  for (const problem of [undefined, undefined, 'a', 'a', 'b', undefined, undefined, 'c']) tell(problem);
  const cannot = 'cannot fetch cluster JWKS; falling back to TokenReview for every uncached token';
  t.strictSame(lines, [[{ problem: 'a' }, cannot], ['cluster JWKS fetched again'], [{ problem: 'c' }, cannot]]);
});
