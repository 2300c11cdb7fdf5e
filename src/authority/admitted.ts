import type { Unavailable } from '../decision/decision.ts';
import type { Authority, Verdict } from './authority.ts';

export interface AdmissionOptions {
  /** How many reviews may be under way at once. */
  readonly maxConcurrency: number;
  /** How many more may wait; past that a review is refused at once. */
  readonly maxQueue: number;
  /** How long a review may wait, in milliseconds; begun later, it would be cut off and look like a fault of the API server. */
  readonly maxWaitMs: number;
  /** Told how long an admitted review waited, in seconds. */
  readonly onAdmitted?: (queuedSeconds: number) => void;
  readonly now?: () => number;
}

/** An {@link Authority} that guards the one behind it, and shows how busy it is. */
export interface Admitted extends Authority {
  readonly inFlight: number;
  readonly queued: number;
}

const OVERLOADED: Unavailable = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'too many reviews',
  retryAfterSeconds: 1,
};

/**
 * Bounds how many reviews run at once, not how many a second: client-side rate limits are what made other sidecars wait
 * half a minute for an answer of three milliseconds. First come, first served; whoever finds the queue full is told at
 * once, and whoever waits too long is told so: our own bound is never blamed on the API server.
 */
export function admitted(inner: Authority, options: AdmissionOptions): Admitted {
  const { maxConcurrency, maxQueue, maxWaitMs, onAdmitted = () => {}, now = () => performance.now() } = options;
  const waiting = new Set<() => void>();
  let inFlight = 0;

  const run = async (ask: () => Verdict | Promise<Verdict>): Promise<Verdict> => {
    try {
      return await ask();
    } finally {
      const [next] = waiting;
      if (next === undefined) {
        inFlight -= 1;
      } else {
        // The place is handed over and never free in between, or a newcomer could take it as well.
        waiting.delete(next);
        next();
      }
    }
  };

  const turn = (signal: AbortSignal | undefined): Promise<boolean> =>
    new Promise(resolve => {
      const leave = () => {
        waiting.delete(enter);
        resolve(false);
      };
      const enter = () => {
        signal?.removeEventListener('abort', leave);
        resolve(true);
      };
      waiting.add(enter);
      signal?.addEventListener('abort', leave, { once: true });
    });

  return {
    get inFlight() {
      return inFlight;
    },
    get queued() {
      return waiting.size;
    },
    async review(token, asking) {
      const ask = () => inner.review(token, asking);
      if (inFlight < maxConcurrency) {
        inFlight += 1;
        onAdmitted(0);
        return run(ask);
      }
      if (waiting.size >= maxQueue) return OVERLOADED;
      const start = now();
      if (!(await turn(asking?.signal))) return OVERLOADED;
      const waitedMs = now() - start;
      onAdmitted(waitedMs / 1000);
      return run(waitedMs > maxWaitMs ? () => OVERLOADED : ask);
    },
  };
}
