/**
 * Shares one running call with all callers of the same key. A caller that leaves does not end the
 * call for the others. The call has its own deadline.
 */
export interface SingleFlight<K, V> {
  /** The running call for this key, if there is one. */
  join(key: K): Promise<V> | undefined;
  /**
   * Starts a call. A synchronous result is returned as is. A promise is shared with all callers of
   * the same key. If it has not settled by the deadline, they get `onTimeout()` and its result is
   * ignored.
   */
  start(key: K, call: (deadline: Deadline) => V | Promise<V>): V | Promise<V>;
}

export interface SingleFlightOptions<V> {
  readonly deadlineMs: number;
  readonly onTimeout: () => V;
}

/** The deadline of a call. */
export class Deadline {
  #hasPassed = false;
  #controller: AbortController | undefined;

  get hasPassed(): boolean {
    return this.#hasPassed;
  }

  /** Aborted at the deadline. It is created on first use, since a synchronous call needs none. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#hasPassed) this.#controller.abort();
    return this.#controller.signal;
  }

  expire(): void {
    this.#hasPassed = true;
    this.#controller?.abort();
  }
}

/**
 * Creates a {@link SingleFlight}. Every call ends by its deadline. If a call rejects, it rejects
 * for all callers.
 */
export function singleFlight<K, V>({ deadlineMs, onTimeout }: SingleFlightOptions<V>): SingleFlight<K, V> {
  const flights = new Map<K, Promise<V>>();
  return {
    join: key => flights.get(key),
    start(key, call) {
      const deadline = new Deadline();
      const answer = call(deadline);
      if (!(answer instanceof Promise)) return answer;
      const running = withDeadline(answer, deadline, deadlineMs, onTimeout).finally(() => flights.delete(key));
      flights.set(key, running);
      return running;
    },
  };
}

function withDeadline<V>(answer: Promise<V>, deadline: Deadline, deadlineMs: number, onTimeout: () => V): Promise<V> {
  const { promise, resolve, reject } = Promise.withResolvers<V>();
  const timer = setTimeout(() => {
    deadline.expire();
    // A stage that reacts to the signal can still return its own, more exact cause.
    setImmediate(() => resolve(onTimeout()));
  }, deadlineMs);
  answer.then(resolve, reject).finally(() => clearTimeout(timer));
  return promise;
}
