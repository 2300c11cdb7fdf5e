import type { Token } from '../../credential/token.ts';
import type { Unavailable } from '../../decision/decision.ts';
import { type Asking, type Authority, type Lane, unavailable, type Verdict } from '../token-authenticator.ts';
import { type Lanes, lanes } from './priority-semaphore.ts';
import { reviewLimit } from './adaptive-concurrency.ts';
import { yieldingPlaces } from './unverified-limit.ts';

/** Why a review was not admitted. */
export type AdmissionRefusal = 'queue full' | 'no turn in time';

export interface AdmissionOptions {
  /** How many reviews may be under way at once, at the most. */
  readonly maxConcurrency: number;
  /** How many more may wait; past that a review is refused at once. */
  readonly maxQueue: number;
  /** How long a review may wait, in milliseconds; begun later, it would be cut off and look like a fault of the API server. */
  readonly maxWaitMs: number;
  /**
   * The part of places and queue that tokens of unverified signature may take together: 1 while none can be verified, since
   * then there is nobody to keep the rest for.
   */
  readonly unverifiedShare: () => number;
  /** Whether good tokens are asked about now, to which unverified ones yield while they are refused. */
  readonly protecting?: () => boolean;
  /** Told how long an admitted review waited, in seconds. */
  readonly onAdmitted?: (queuedSeconds: number) => void;
  readonly onRefused?: (lane: Lane, why: AdmissionRefusal) => void;
  readonly now?: () => number;
}

/** An {@link Authority} that guards the one behind it, and shows how busy it is. */
export interface Admitted extends Authority {
  /** How many may be under way at once, now. */
  readonly limit: number;
  inFlight(lane: Lane): number;
  queued(lane: Lane): number;
}

const OVERLOADED: Unavailable = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'too many reviews',
  retryAfterSeconds: 1,
};

/** The part of all places that tokens keep, however many of them are refused, while none can be verified. */
const KEPT_SHARE = 1 / 4;

/** How much the latest review counts in the average of their durations. */
const WEIGHT = 0.1;

/**
 * Bounds how many reviews run at once, not how many a second: client-side rate limits are what made other sidecars wait
 * half a minute for an answer of three milliseconds. The bound gives way when the API server says that it has too much,
 * and comes back with its answers.
 *
 * Tokens of verified signature go first; the others never hold more than their share, so that junk delays nobody whose
 * token is good, and yield further while it is junk; renewals go last. Whoever finds the queue full, or could not get a turn in time, is told at once: our own
 * bound is never blamed on the API server.
 */
export function admitted(inner: Authority, options: AdmissionOptions): Admitted {
  const { maxConcurrency, maxQueue, maxWaitMs, unverifiedShare, now = () => performance.now() } = options;
  const { protecting = () => false, onAdmitted = () => {}, onRefused = () => {} } = options;
  const limit = reviewLimit(maxConcurrency, now);
  // Where nothing can be verified, good tokens are among the others: those keep as much as junk has elsewhere.
  const kept = (): number => (unverifiedShare() < 1 ? 1 : limit.current * KEPT_SHARE);
  const yielding = yieldingPlaces({ protecting, kept, now });
  const queues = lanes({ limit: () => limit.current, maxQueue, unverifiedShare, unverifiedPlaces: yielding.current });
  // A lane's own: junk that takes long to refuse must not make it seem that good tokens wait long.
  const averageMs: Record<Lane, number> = { verified: 0, unverified: 0, refresh: 0 };
  let heldSince = Number.NEGATIVE_INFINITY;
  let heldUntil = Number.NEGATIVE_INFINITY;
  let release: NodeJS.Timeout | undefined;

  const learn = (lane: Lane, verdict: Verdict, startedAt: number): void => {
    if (lane === 'unverified') yielding.learn(verdict);
    averageMs[lane] += (now() - startedAt - averageMs[lane]) * WEIGHT;
    if (verdict.kind !== 'unavailable') {
      limit.answered();
      // One that was begun before says nothing about the room there is now.
      if (startedAt >= heldSince) hold(0);
    } else if (verdict.cause === 'too many requests') {
      limit.throttled(startedAt);
      hold(verdict.retryAfterSeconds * 1000);
    }
  };

  /** Until then only verified tokens are asked about, whose answer also tells whether the API server has room again. */
  const hold = (ms: number): void => {
    heldSince = ms === 0 ? Number.NEGATIVE_INFINITY : now();
    heldUntil = ms === 0 ? Number.NEGATIVE_INFINITY : now() + ms;
    queues.hold(ms > 0);
    clearTimeout(release);
    release = ms === 0 ? undefined : setTimeout(() => queues.hold(false), ms).unref();
  };

  const run = async (lane: Lane, token: Token, asking: Asking): Promise<Verdict> => {
    const startedAt = now();
    try {
      const verdict = await inner.review(token, asking);
      learn(lane, verdict, startedAt);
      return verdict;
    } finally {
      queues.leave(lane);
    }
  };

  const wait = async (lane: Lane, token: Token, asking: Asking): Promise<Verdict> => {
    const start = now();
    if (!(await turn(queues, lane, asking.signal))) return refuse(lane, 'no turn in time');
    const waitedMs = now() - start;
    if (waitedMs > maxWaitMs) {
      queues.leave(lane);
      return refuse(lane, 'no turn in time');
    }
    onAdmitted(waitedMs / 1000);
    return run(lane, token, asking);
  };

  const refuse = (lane: Lane, why: AdmissionRefusal): Unavailable => {
    onRefused(lane, why);
    return OVERLOADED;
  };

  const expectedWaitMs = (lane: Lane): number =>
    (Math.ceil((queues.queued(lane) + 1) / queues.places(lane)) - 1) * averageMs[lane];

  return {
    get limit() {
      return limit.current;
    },
    inFlight: lane => queues.inFlight(lane),
    queued: lane => queues.queued(lane),
    review(token, asking = {}) {
      const lane = asking.lane ?? 'unverified';
      if (queues.enter(lane)) {
        onAdmitted(0);
        return run(lane, token, asking);
      }
      if (queues.isFull(lane)) return refuse(lane, 'queue full');
      // The API server's own wish, not our bound; and how long it lasts in the end nobody knows.
      if (lane !== 'verified' && heldUntil > now()) {
        return unavailable('too many requests', Math.ceil((heldUntil - now()) / 1000));
      }
      if (expectedWaitMs(lane) > maxWaitMs) return refuse(lane, 'no turn in time');
      return wait(lane, token, asking);
    },
  };
}

/** Whether the turn came before the signal. */
function turn(queues: Lanes, lane: Lane, signal: AbortSignal | undefined): Promise<boolean> {
  return new Promise(resolve => {
    const giveUp = queues.wait(lane, () => {
      signal?.removeEventListener('abort', leave);
      resolve(true);
    });
    const leave = () => {
      giveUp();
      resolve(false);
    };
    if (signal?.aborted) leave();
    else signal?.addEventListener('abort', leave, { once: true });
  });
}
