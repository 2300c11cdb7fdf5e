import { KubeApiError } from '../kube/api-client.ts';

/**
 * The shortest time between two fetches, in milliseconds. Applies to unknown keys and after a fetch
 * that failed.
 */
export const ASK_EVERY_MS = 10_000;

/**
 * The shortest time between two fetches that confirm a rejection, in milliseconds. Fetched keys
 * confirm rejections for the same time. A rejection is therefore always either confirmed or able to
 * start a fetch.
 */
export const CONFIRM_EVERY_MS = 500;

/** How many tokens may wait at once. Further ones do not wait: the API server reviews them. */
const MAX_WAITING = 256;

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
  ask(everyMs: number): void;
  /**
   * Fetches the keys again, unless that was done within the last half second.
   *
   * @returns a promise that settles when the fetch ends or the wait takes too long. `undefined` if
   *   there is nothing to wait for or too many tokens wait.
   */
  fetchAgain(): Promise<void> | undefined;
}

/** Creates the schedule of fetches. A failed fetch delays the next one by ten seconds. */
export function createFetchSchedule(fetch: () => Promise<void>, options: FetchScheduleOptions): FetchSchedule {
  const { maxWaitMs, onFetch = () => {}, now = () => performance.now() } = options;
  const { setTimer = (callback, ms) => setTimeout(callback, ms).unref() } = options;
  let lastFetch = { startedAt: Number.NEGATIVE_INFINITY, running: false, failed: false };
  let fetched: Promise<void> | undefined;
  let waiting = 0;

  const ask = (everyMs: number): void => {
    if (lastFetch.running || now() < lastFetch.startedAt + (lastFetch.failed ? ASK_EVERY_MS : everyMs)) return;
    const thisFetch = { startedAt: now(), running: true, failed: false };
    lastFetch = thisFetch;
    const { promise, resolve } = Promise.withResolvers<void>();
    fetched = promise;
    const letGo = (): void => {
      if (fetched === promise) fetched = undefined;
      resolve();
    };
    setTimer(letGo, maxWaitMs);
    const end = (problem: string | undefined): void => {
      thisFetch.running = false;
      thisFetch.failed = problem !== undefined;
      letGo();
      onFetch(problem);
    };
    fetch().then(
      () => end(undefined),
      error => end(error instanceof KubeApiError ? error.message : 'internal error'),
    );
  };

  return {
    ask,
    fetchAgain() {
      ask(CONFIRM_EVERY_MS);
      if (fetched === undefined || waiting >= MAX_WAITING) return undefined;
      waiting += 1;
      return fetched.then(() => {
        waiting -= 1;
      });
    },
  };
}
