import type { Logger } from './logging/logger.ts';

/**
 * Told of each attempt to read the cluster's keys, it writes one line when they cannot be read and one when they can again.
 *
 * @returns what takes the problem in our own words, or `undefined` for a success.
 */
export function logJwksTransitions(log: Pick<Logger, 'info' | 'warn'>): (problem: string | undefined) => void {
  let told: string | undefined;
  return problem => {
    if (problem !== undefined && told === undefined) {
      log.warn({ problem }, "the cluster's keys cannot be read: what they would tell is left to the API server");
    } else if (problem === undefined && told !== undefined) {
      log.info("the cluster's keys can be read again");
    }
    told = problem;
  };
}
