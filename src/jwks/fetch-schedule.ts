import { KubeApiError } from '../kube/api-client.ts';
import { JWKS_CONFIRM_EVERY_MS, JWKS_FETCH_EVERY_MS, JWKS_MAX_WAITING_TOKENS } from '../limits/constants.ts';
import { unreferencedTimer } from '../system/unreferenced-timer.ts';

export interface FetchScheduleOptions {
  /** Called after each fetch. `problem` says in gatecar's own words why the fetch failed. */
  readonly onFetch?: (problem: string | undefined) => void;
  /**
   * How long a token waits for keys that confirm its rejection, in milliseconds. After that, the
   * API server reviews it.
   */
  readonly maxWaitMs: number;
  /** A monotonic clock in milliseconds. */
  readonly now?: () => number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
}

/** Limits how often the keys are fetched, and how many tokens wait for them. */
export interface FetchSchedule {
  /** Starts a fetch, unless one runs or the last one started within `everyMs` milliseconds. */
  fetchIfDue(everyMs: number): void;
  /**
   * Fetches the keys again, unless a fetch runs, started within the last half second, or failed
   * within the last ten seconds.
   *
   * @returns a promise that settles when the fetch ends or the wait takes too long. `undefined` if
   *   there is nothing to wait for or too many tokens wait.
   */
  fetchAgain(): Promise<void> | undefined;
}

/** Creates the schedule of fetches. A failed fetch delays the next one by ten seconds. */
export function createFetchSchedule(fetch: () => Promise<void>, options: FetchScheduleOptions): FetchSchedule {
  const { maxWaitMs, onFetch = () => {}, now = () => performance.now() } = options;
  const { setTimer = unreferencedTimer } = options;
  let lastFetch = { startedAt: Number.NEGATIVE_INFINITY, running: false, failed: false };
  let fetched: Promise<void> | undefined;
  let waiting = 0;

  const fetchIfDue = (everyMs: number): void => {
    if (lastFetch.running || now() < lastFetch.startedAt + (lastFetch.failed ? JWKS_FETCH_EVERY_MS : everyMs)) return;
    const thisFetch = { startedAt: now(), running: true, failed: false };
    lastFetch = thisFetch;
    const { promise, resolve } = Promise.withResolvers<void>();
    fetched = promise;
    const resolveWaiters = (): void => {
      if (fetched === promise) fetched = undefined;
      resolve();
    };
    setTimer(resolveWaiters, maxWaitMs);
    const end = (problem: string | undefined): void => {
      thisFetch.running = false;
      thisFetch.failed = problem !== undefined;
      resolveWaiters();
      onFetch(problem);
    };
    fetch().then(
      () => end(undefined),
      error => end(error instanceof KubeApiError ? error.message : 'internal error'),
    );
  };

  return {
    fetchIfDue,
    fetchAgain() {
      fetchIfDue(JWKS_CONFIRM_EVERY_MS);
      if (fetched === undefined || waiting >= JWKS_MAX_WAITING_TOKENS) return undefined;
      waiting += 1;
      return fetched.then(() => {
        waiting -= 1;
      });
    },
  };
}
