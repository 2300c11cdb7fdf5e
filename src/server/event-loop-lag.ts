import { EVENT_LOOP_TICK_MS } from '../limits/constants.ts';

export interface EventLoopLag {
  /** The delay of the event loop in milliseconds. A single long pause does not count. */
  current(): number;
  stop(): void;
}

/**
 * Measures how late a timer of 20 ms fires. The lag is the smaller delay of the last two rounds. A
 * garbage collection or the loading of a module delays one round; overload delays every round. An
 * overdue timer counts before it fires.
 */
export function eventLoopLag(clock: () => number = () => performance.now()): EventLoopLag {
  let expected = clock() + EVENT_LOOP_TICK_MS;
  let previous = 0;
  let last = 0;
  const timer = setInterval(() => {
    const now = clock();
    previous = last;
    last = Math.max(0, now - expected);
    expected = now + EVENT_LOOP_TICK_MS;
  }, EVENT_LOOP_TICK_MS).unref();
  return {
    current: () => Math.min(last, Math.max(previous, clock() - expected)),
    stop: () => clearInterval(timer),
  };
}
