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
export type QueueRejection = 'queue_full' | 'queue_timeout';

export interface ReviewQueueOptions {
  /** The highest number of concurrent reviews. */
  readonly maxConcurrency: number;
  /** How many reviews may wait. Further ones are rejected immediately. */
  readonly maxQueue: number;
  /**
   * How long a review may wait, in milliseconds. A review that started later would time out and
   * look like a fault of the API server.
   */
  readonly maxWaitMs: number;
  /**
   * The fraction of slots and queue that tokens with unverified signatures may use together. It is
   * 1 while no signature can be verified: there is then no verified traffic to reserve the rest
   * for.
   */
  readonly unverifiedShare: () => number;
  /**
   * Whether valid tokens are in use. If so, unverified tokens get fewer slots while they are
   * rejected.
   */
  readonly protecting?: () => boolean;
  /** Called with the time that an admitted review has waited, in seconds. */
  readonly onAdmitted?: (queuedSeconds: number) => void;
  readonly onRefused?: (priority: Priority, why: QueueRejection) => void;
  readonly now?: () => number;
}

/** A {@link TokenAuthenticator} that limits the load on the next stage, and reports that load. */
export interface ReviewQueue extends TokenAuthenticator {
  /** How many reviews may run at once now. */
  readonly limit: number;
  inFlight(priority: Priority): number;
  queued(priority: Priority): number;
}

const OVERLOADED: Unavailable = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'too_many_reviews',
  retryAfterSeconds: 1,
};

/**
 * The fraction of all slots that unverified tokens keep while no signature can be verified, however
 * many are rejected.
 */
const MIN_UNVERIFIED_SHARE = 1 / 4;

/** Weight of the latest review in the moving average of durations. */
const EWMA_ALPHA = 0.1;

/**
 * Limits how many reviews run at once, not how many start per second. A client-side rate limit can
 * delay requests far longer than the API server needs. The limit falls when the API server reports
 * "too_many_requests" and rises with its answers.
 *
 * Tokens with verified signatures go first. Unverified tokens never use more than their share, so
 * invalid tokens do not delay valid ones. Their share shrinks further while they are rejected.
 * Refreshes go last.
 *
 * If the queue is full, or no slot frees up in time, the review is rejected as `overloaded`. If the
 * expected wait is too long, this happens immediately. gatecar's own limit is never reported as a
 * failure of the API server.
 */
export function withReviewQueue(inner: TokenAuthenticator, options: ReviewQueueOptions): ReviewQueue {
  const { maxConcurrency, maxQueue, maxWaitMs, unverifiedShare, now = () => performance.now() } = options;
  const { protecting = () => false, onAdmitted = () => {}, onRefused = () => {} } = options;
  const limit = aimdLimit(maxConcurrency, now);
  // If no signature can be verified, valid tokens are unverified too. They then keep a quarter of
  // the slots instead of one.
  const kept = (): number => (unverifiedShare() < 1 ? 1 : limit.current * MIN_UNVERIFIED_SHARE);
  const yielding = createUnverifiedLimit({ protecting, kept, now });
  const queues = prioritySemaphore({
    limit: () => limit.current,
    maxQueue,
    unverifiedShare,
    unverifiedPlaces: yielding.current,
  });
  // Averages are per priority: slow rejections of invalid tokens must not inflate the expected wait
  // of valid ones.
  const averageMs: Record<Priority, number> = { verified: 0, unverified: 0, refresh: 0 };
  let heldSince = Number.NEGATIVE_INFINITY;
  let heldUntil = Number.NEGATIVE_INFINITY;
  let release: NodeJS.Timeout | undefined;

  const learn = (priority: Priority, verdict: AuthResult, startedAt: number): void => {
    if (priority === 'unverified') yielding.learn(verdict);
    averageMs[priority] += (now() - startedAt - averageMs[priority]) * EWMA_ALPHA;
    if (verdict.kind !== 'unavailable') {
      limit.onSuccess();
      // A review that started before the pause does not show whether the API server has capacity
      // now.
      if (startedAt >= heldSince) hold(0);
    } else if (verdict.cause === 'too_many_requests') {
      limit.onThrottled(startedAt);
      hold(verdict.retryAfterSeconds * 1000);
    }
  };

  /**
   * Pauses all but verified tokens for `ms` milliseconds; 0 ends the pause. The reviews of verified
   * tokens show whether the API server has capacity again.
   */
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
    if (!(await turn(queues, priority, asking.signal))) return refuse(priority, 'queue_timeout');
    const waitedMs = now() - start;
    if (waitedMs > maxWaitMs) {
      queues.leave(priority);
      return refuse(priority, 'queue_timeout');
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
      if (queues.isFull(priority)) return refuse(priority, 'queue_full');
      // The API server asked for this pause, so it is not reported as gatecar's own limit. The
      // review does not wait, because the API server may extend the pause.
      if (priority !== 'verified' && heldUntil > now()) {
        return unavailable('too_many_requests', Math.ceil((heldUntil - now()) / 1000));
      }
      if (expectedWaitMs(priority) > maxWaitMs) return refuse(priority, 'queue_timeout');
      return wait(priority, token, asking);
    },
  };
}

/** Waits for a slot. @returns whether it came before the signal aborted. */
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
