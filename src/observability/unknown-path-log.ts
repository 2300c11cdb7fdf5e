import { redact } from '../credential/redaction.ts';
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
): (target: string) => void {
  let loggedAtMs = Number.NEGATIVE_INFINITY;
  let suppressed = 0;
  return target => {
    if (now() - loggedAtMs < UNKNOWN_PATH_LOG_EVERY_MS) {
      suppressed += 1;
      return;
    }
    const [path = ''] = target.slice(0, MAX_LOGGED_PATH_LENGTH).split(/[?#]/, 1);
    log.warn({ path: redact(path), suppressed }, 'unknown path; responded 404. Gateways must call /auth');
    loggedAtMs = now();
    suppressed = 0;
  };
}
