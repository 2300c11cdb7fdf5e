import type { Logger } from './logging/logger.ts';

export interface StaleServingLog {
  /** A verdict was served past its time to live. */
  served(): void;
  /** The API server could be asked again. */
  ended(): void;
  /** Whether such verdicts are being served. */
  readonly active: boolean;
}

/** One line when verdicts begin to be served past their time, and one when that is over. */
export function logStaleServing(log: Pick<Logger, 'info' | 'warn'>): StaleServingLog {
  let count = 0;
  return {
    get active() {
      return count > 0;
    },
    served() {
      if (count === 0) log.warn('grace: known verdicts are served past their time, for the API server cannot be asked');
      count += 1;
    },
    ended() {
      if (count > 0) log.info({ served: count }, 'grace: over, the API server can be asked again');
      count = 0;
    },
  };
}
