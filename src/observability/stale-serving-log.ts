import type { Logger } from './logging/logger.ts';

export interface StaleServingLog {
  /** Records that a result was served past its TTL. */
  served(): void;
  /** Records that the API server is reachable again. */
  ended(): void;
  /** Whether stale results are being served. */
  readonly active: boolean;
}

/** Logs one line when gatecar starts serving stale results, and one when it stops. */
export function logStaleServing(log: Pick<Logger, 'info' | 'warn'>): StaleServingLog {
  let count = 0;
  return {
    get active() {
      return count > 0;
    },
    served() {
      if (count === 0) log.warn('serving stale results: API server unreachable');
      count += 1;
    },
    ended() {
      if (count > 0) log.info({ served: count }, 'stopped serving stale results');
      count = 0;
    },
  };
}
