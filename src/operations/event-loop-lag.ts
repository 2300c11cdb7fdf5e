/** How often the event loop is asked whether it comes round in time, in milliseconds. */
const TICK_MS = 20;

export interface EventLoopLag {
  /** By how much the event loop is behind, in milliseconds, round after round: one long pause alone counts for nothing. */
  now(): number;
  stop(): void;
}

/**
 * Measures with a timer that should come every 20 ms. One that is overdue tells before it has come. A collection of garbage
 * or the loading of a module holds a process up once; one that has too much to do is late two times running.
 */
export function eventLoopLag(clock: () => number = () => performance.now()): EventLoopLag {
  let expected = clock() + TICK_MS;
  let previous = 0;
  let last = 0;
  const timer = setInterval(() => {
    previous = last;
    last = Math.max(0, clock() - expected);
    expected = clock() + TICK_MS;
  }, TICK_MS).unref();
  return {
    now: () => Math.min(last, Math.max(previous, clock() - expected)),
    stop: () => clearInterval(timer),
  };
}
