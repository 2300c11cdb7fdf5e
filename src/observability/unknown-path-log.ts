import { presentedIn, readCredential } from '../credential/authorization-header.ts';
import { redactor } from '../credential/redaction.ts';
import { MAX_LOGGED_PATH_LENGTH, UNKNOWN_PATH_LOG_EVERY_MS } from '../limits/constants.ts';
import type { Logger } from './logging/logger.ts';

/**
 * Returns a function that logs requests to paths other than `/auth`, at most one line per minute.
 * nginx shows gatecar's 404 to every client as a 500, so the line is what an operator can find.
 *
 * @param now the monotonic time, in milliseconds.
 */
export function unknownPathLog(
  log: Pick<Logger, 'warn'>,
  now: () => number = () => performance.now(),
): (target: string, rawHeaders: readonly string[]) => void {
  let loggedAtMs = Number.NEGATIVE_INFINITY;
  let suppressed = 0;
  return (target, rawHeaders) => {
    if (now() - loggedAtMs < UNKNOWN_PATH_LOG_EVERY_MS) {
      suppressed += 1;
      return;
    }
    // The scheme and authority of an absolute target may contain a password.
    const [path = ''] = target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').split(/[?#]/, 1);
    const withoutToken = redactor(presentedIn(readCredential(rawHeaders)));
    log.warn(
      { path: withoutToken(path).slice(0, MAX_LOGGED_PATH_LENGTH), suppressed },
      'unknown path; responded 404. Gateways must call /auth',
    );
    loggedAtMs = now();
    suppressed = 0;
  };
}
