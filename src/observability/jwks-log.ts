import type { Logger } from './logging/logger.ts';

/**
 * Logs one line when the JWKS cannot be read, and one when it can be read again.
 *
 * @returns a function to call after each fetch. It takes the problem in gatecar's own words, or
 * `undefined` after a success.
 */
export function logJwksTransitions(log: Pick<Logger, 'info' | 'warn'>): (problem: string | undefined) => void {
  let loggedProblem: string | undefined;
  return problem => {
    if (problem !== undefined && loggedProblem === undefined) {
      log.warn({ problem }, 'cannot fetch cluster JWKS; falling back to TokenReview for every uncached token');
    } else if (problem === undefined && loggedProblem !== undefined) {
      log.info('cluster JWKS fetched again');
    }
    loggedProblem = problem;
  };
}
