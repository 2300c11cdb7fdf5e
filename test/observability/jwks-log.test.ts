import t from 'tap';
import { logJwksTransitions } from '../../src/observability/jwks-log.ts';

t.test('a JWKS that cannot be fetched is logged once, and once when it is fetched again', async t => {
  const lines: unknown[] = [];
  const log = { warn: (...line: unknown[]) => lines.push(line), info: (...line: unknown[]) => lines.push(line) };
  const logTransition = logJwksTransitions(log as unknown as Parameters<typeof logJwksTransitions>[0]);
  for (const problem of [undefined, undefined, 'a', 'a', 'b', undefined, undefined, 'c']) logTransition(problem);
  const failed = 'cannot fetch cluster JWKS; falling back to TokenReview for every uncached token';
  t.strictSame(lines, [[{ problem: 'a' }, failed], ['cluster JWKS fetched again'], [{ problem: 'c' }, failed]]);
});
