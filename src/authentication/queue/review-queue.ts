import type { Token } from '../../credential/token.ts';
import type { Unavailable } from '../../decision/decision.ts';
import {
  type AuthResult,
  type Priority,
  type ReviewContext,
  type TokenAuthenticator,
  unavailable,
} from '../token-authenticator.ts';
import { aimdLimit } from './adaptive-concurrency.ts';
import { type PrioritySemaphore, prioritySemaphore } from './priority-semaphore.ts';
import { createUnverifiedLimit } from './unverified-limit.ts';

/** Why a review was not admitted. */
export type QueueRejection = 'queue full' | 'no turn in time';

export interface ReviewQueueOptions {
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
  readonly onRefused?: (priority: Priority, why: QueueRejection) => void;
  readonly now?: () => number;
}

/** An {@link TokenAuthenticator} that guards the one behind it, and shows how busy it is. */
export interface ReviewQueue extends TokenAuthenticator {
  /** How many may be under way at once, now. */
  readonly limit: number;
  inFlight(priority: Priority): number;
  queued(priority: Priority): number;
}

const OVERLOADED: Unavailable = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'too many reviews',
  retryAfterSeconds: 1,
};

/** The part of all places that tokens keep, however many of them are refused, while none can be verified. */
const MIN_UNVERIFIED_SHARE = 1 / 4;

/** How much the latest review counts in the average of their durations. */
const EWMA_ALPHA = 0.1;

/**
 * Bounds how many reviews run at once, not how many a second: client-side rate limits are what made other sidecars wait
 * half a minute for an answer of three milliseconds. The bound gives way when the API server says that it has too much,
 * and comes back with its answers.
 *
 * Tokens of verified signature go first; the others never hold more than their share, so that junk delays nobody whose
 * token is good, and yield further while it is junk; renewals go last. Whoever finds the queue full, or could not get a turn in time, is told at once: our own
 * bound is never blamed on the API server.
 */
export function withReviewQueue(inner: TokenAuthenticator, options: ReviewQueueOptions): ReviewQueue {
  const { maxConcurrency, maxQueue, maxWaitMs, unverifiedShare, now = () => performance.now() } = options;
  const { protecting = () => false, onAdmitted = () => {}, onRefused = () => {} } = options;
  const limit = aimdLimit(maxConcurrency, now);
  // Where nothing can be verified, good tokens are among the others: those keep as much as junk has elsewhere.
  const kept = (): number => (unverifiedShare() < 1 ? 1 : limit.current * MIN_UNVERIFIED_SHARE);
  const yielding = createUnverifiedLimit({ protecting, kept, now });
  const queues = prioritySemaphore({
    limit: () => limit.current,
    maxQueue,
    unverifiedShare,
    unverifiedPlaces: yielding.current,
  });
  // A priority's own: junk that takes long to refuse must not make it seem that good tokens wait long.
  const averageMs: Record<Priority, number> = { verified: 0, unverified: 0, refresh: 0 };
  let heldSince = Number.NEGATIVE_INFINITY;
  let heldUntil = Number.NEGATIVE_INFINITY;
  let release: NodeJS.Timeout | undefined;

  const learn = (priority: Priority, verdict: AuthResult, startedAt: number): void => {
    if (priority === 'unverified') yielding.learn(verdict);
    averageMs[priority] += (now() - startedAt - averageMs[priority]) * EWMA_ALPHA;
    if (verdict.kind !== 'unavailable') {
      limit.onSuccess();
      // One that was begun before says nothing about the room there is now.
      if (startedAt >= heldSince) hold(0);
    } else if (verdict.cause === 'too many requests') {
      limit.onThrottled(startedAt);
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

  const run = async (priority: Priority, token: Token, asking: ReviewContext): Promise<AuthResult> => {
    const startedAt = now();
    try {
      const verdict = await inner.authenticate(token, asking);
      learn(priority, verdict, startedAt);
      return verdict;
    } finally {
      queues.leave(priority);
    }
  };

  const wait = async (priority: Priority, token: Token, asking: ReviewContext): Promise<AuthResult> => {
    const start = now();
    if (!(await turn(queues, priority, asking.signal))) return refuse(priority, 'no turn in time');
    const waitedMs = now() - start;
    if (waitedMs > maxWaitMs) {
      queues.leave(priority);
      return refuse(priority, 'no turn in time');
    }
    onAdmitted(waitedMs / 1000);
    return run(priority, token, asking);
  };

  const refuse = (priority: Priority, why: QueueRejection): Unavailable => {
    onRefused(priority, why);
    return OVERLOADED;
  };

  const expectedWaitMs = (priority: Priority): number =>
    (Math.ceil((queues.queued(priority) + 1) / queues.places(priority)) - 1) * averageMs[priority];

  return {
    get limit() {
      return limit.current;
    },
    inFlight: priority => queues.inFlight(priority),
    queued: priority => queues.queued(priority),
    authenticate(token, asking = {}) {
      const priority = asking.priority ?? 'unverified';
      if (queues.enter(priority)) {
        onAdmitted(0);
        return run(priority, token, asking);
      }
      if (queues.isFull(priority)) return refuse(priority, 'queue full');
      // The API server's own wish, not our bound; and how long it lasts in the end nobody knows.
      if (priority !== 'verified' && heldUntil > now()) {
        return unavailable('too many requests', Math.ceil((heldUntil - now()) / 1000));
      }
      if (expectedWaitMs(priority) > maxWaitMs) return refuse(priority, 'no turn in time');
      return wait(priority, token, asking);
    },
  };
}

/** Whether the turn came before the signal. */
function turn(queues: PrioritySemaphore, priority: Priority, signal: AbortSignal | undefined): Promise<boolean> {
  return new Promise(resolve => {
    const giveUp = queues.wait(priority, () => {
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
