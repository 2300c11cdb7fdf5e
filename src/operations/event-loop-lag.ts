/** How often the event loop is asked whether it comes round in time, in milliseconds. */
const TICK_MS = 20;

/**
 * For how long after the last work, in milliseconds. Fifty times a second are most of what a sidecar at rest does: code that
 * runs so often is optimized, by compilers of which it would hold seven megabytes for good.
 */
const REST_AFTER_MS = 5_000;

export interface EventLoopLag {
  /** By how much the event loop is behind, in milliseconds, round after round: one long pause alone counts for nothing. */
  now(): number;
  /** Says that there is work, whose lag may be asked for at any time. */
  work(): void;
  stop(): void;
}

/**
 * Measures with a timer that should come every 20 ms. One that is overdue tells before it has come. A collection of garbage
 * or the loading of a module holds a process up once; one that has too much to do is late two times running. The first
 * work starts it: until two rounds are over, nothing is known.
 */
export function eventLoopLag(clock: () => number = () => performance.now()): EventLoopLag {
  let expected = 0;
  let previous = 0;
  let last = 0;
  let hasWorked = false;
  let workedAt = 0;
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    clearInterval(timer);
    timer = undefined;
  };
  const start = (): void => {
    previous = 0;
    last = 0;
    workedAt = clock();
    expected = workedAt + TICK_MS;
    timer = setInterval(() => {
      const at = clock();
      previous = last;
      last = Math.max(0, at - expected);
      expected = at + TICK_MS;
      if (hasWorked) workedAt = at;
      hasWorked = false;
      if (at - workedAt > REST_AFTER_MS) stop();
    }, TICK_MS).unref();
  };
  // For each decision: nothing but a mark.
  const work = (): void => {
    hasWorked = true;
    if (timer === undefined) start();
  };
  return {
    now() {
      work();
      return Math.min(last, Math.max(previous, clock() - expected));
    },
    work,
    stop,
  };
}
