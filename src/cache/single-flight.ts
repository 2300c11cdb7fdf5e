/**
 * Shares one running call among all who ask for the same key while it runs. The call belongs to nobody: a caller that
 * leaves does not end it for the others, and it has a deadline of its own.
 */
export interface SingleFlight<K, V> {
  /** The running call for this key, if there is one. */
  join(key: K): Promise<V> | undefined;
  /**
   * Starts a call. It gets a signal that is aborted at its deadline; if it has not come to an end by then, all who wait
   * get `late()` and its own end is of no interest any more.
   */
  start(key: K, call: (signal: AbortSignal) => V | Promise<V>): Promise<V>;
  readonly size: number;
}

export interface SingleFlightOptions<V> {
  readonly deadlineMs: number;
  readonly late: () => V;
}

/** A {@link SingleFlight} whose every call ends by its deadline. A call that throws rejects for all who wait. */
export function singleFlight<K, V>({ deadlineMs, late }: SingleFlightOptions<V>): SingleFlight<K, V> {
  const flights = new Map<K, Promise<V>>();
  return {
    join: key => flights.get(key),
    start(key, call) {
      const flight = withDeadline(deadlineMs, late, call).finally(() => flights.delete(key));
      flights.set(key, flight);
      return flight;
    },
    get size() {
      return flights.size;
    },
  };
}

async function withDeadline<V>(
  deadlineMs: number,
  late: () => V,
  call: (signal: AbortSignal) => V | Promise<V>,
): Promise<V> {
  const controller = new AbortController();
  const { promise: deadline, resolve } = Promise.withResolvers<V>();
  const timer = setTimeout(() => {
    controller.abort();
    // Whoever heard that may still say in its own words why there is no answer.
    setImmediate(() => resolve(late()));
  }, deadlineMs);
  try {
    return await Promise.race([call(controller.signal), deadline]);
  } finally {
    clearTimeout(timer);
  }
}
