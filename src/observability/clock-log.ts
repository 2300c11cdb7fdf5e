import type { Logger } from './logging/logger.ts';

/**
 * Logs one line when gatecar's clock and the API server's start to differ, and one when they agree
 * again.
 *
 * @returns a function to call on each change; `skewMs` is how far gatecar's clock is ahead.
 */
export function logClockSkew(log: Pick<Logger, 'info' | 'warn'>): (differs: boolean, skewMs: number) => void {
  return (differs, skewMs) => {
    const skewSeconds = Math.round(skewMs / 1000);
    if (differs) log.warn({ skewSeconds }, 'clock skew: token times are not checked locally');
    else log.info({ skewSeconds }, 'clock skew ended');
  };
}
