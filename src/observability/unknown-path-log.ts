import { presentedIn, readCredential } from '../credential/authorization-header.ts';
import { redactor } from '../credential/redaction.ts';
import { MAX_LOGGED_PATH_LENGTH, UNKNOWN_PATH_LOG_WINDOW_MS } from '../limits/constants.ts';
import { logRateLimiter } from './logging/log-rate-limit.ts';
import type { Logger } from './logging/logger.ts';

/**
 * Returns a function that logs requests to paths other than `/auth`, at most one per minute. nginx
 * shows gatecar's 404 to every client as a 500, so the line is what an operator can find. The next
 * line is preceded by the number of requests in between.
 *
 * @param now the monotonic time, in milliseconds.
 */
export function unknownPathLog(
  log: Pick<Logger, 'warn'>,
  now: () => number = () => performance.now(),
): (target: string, rawHeaders: readonly string[]) => void {
  const gate = logRateLimiter({
    burst: 1,
    windowMs: UNKNOWN_PATH_LOG_WINDOW_MS,
    maxKinds: 1,
    onSummary: (_kind, suppressed) => log.warn({ suppressed }, 'more requests to unknown paths'),
    now,
  });
  return (target, rawHeaders) => {
    if (!gate.admit('unknown path')) return;
    // The scheme and authority of an absolute target may contain a password.
    const [path = ''] = target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').split(/[?#]/, 1);
    const withoutToken = redactor(presentedIn(readCredential(rawHeaders)));
    log.warn(
      { path: withoutToken(path).slice(0, MAX_LOGGED_PATH_LENGTH) },
      'unknown path; responded 404. Gateways must call /auth',
    );
  };
}
