/**
 * Shares one running call among all who ask for the same key while it runs. The call belongs to nobody: a caller that
 * leaves does not end it for the others, and it has a deadline of its own.
 */
export interface SingleFlight<K, V> {
  /** The running call for this key, if there is one. */
  join(key: K): Promise<V> | undefined;
  /**
   * Starts a call. What it answers at once is handed on, and there is nothing to share. Else, if it has not come to an end
   * by its deadline, all who wait get `late()` and its own end is of no interest any more.
   */
  start(key: K, call: (deadline: Deadline) => V | Promise<V>): V | Promise<V>;
  readonly size: number;
}

export interface SingleFlightOptions<V> {
  readonly deadlineMs: number;
  readonly late: () => V;
}

/** When a call has to be done. */
export class Deadline {
  #hasPassed = false;
  #controller: AbortController | undefined;

  get hasPassed(): boolean {
    return this.#hasPassed;
  }

  /** Aborted when it passes. Made where it is asked for: what is answered at once has no use for one. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#hasPassed) this.#controller.abort();
    return this.#controller.signal;
  }

  pass(): void {
    this.#hasPassed = true;
    this.#controller?.abort();
  }
}

/** A {@link SingleFlight} whose every call ends by its deadline. A call that rejects rejects for all who wait. */
export function singleFlight<K, V>({ deadlineMs, late }: SingleFlightOptions<V>): SingleFlight<K, V> {
  const flights = new Map<K, Promise<V>>();
  return {
    join: key => flights.get(key),
    start(key, call) {
      const deadline = new Deadline();
      const answer = call(deadline);
      if (!(answer instanceof Promise)) return answer;
      const flight = withDeadline(answer, deadline, deadlineMs, late).finally(() => flights.delete(key));
      flights.set(key, flight);
      return flight;
    },
    get size() {
      return flights.size;
    },
  };
}

function withDeadline<V>(answer: Promise<V>, deadline: Deadline, deadlineMs: number, late: () => V): Promise<V> {
  const { promise, resolve, reject } = Promise.withResolvers<V>();
  const timer = setTimeout(() => {
    deadline.pass();
    // Whoever heard that may still say in its own words why there is no answer.
    setImmediate(() => resolve(late()));
  }, deadlineMs);
  answer.then(resolve, reject).finally(() => clearTimeout(timer));
  return promise;
}
