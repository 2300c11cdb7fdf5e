import { MIN_UNVERIFIED_SHARE, REVIEW_EWMA_WEIGHT } from '../../limits/constants.ts';
import type { AuthResult, Priority } from '../token-authenticator.ts';
import { type AdaptiveLimit, aimdLimit } from './adaptive-concurrency.ts';
import { type PrioritySemaphore, prioritySemaphore } from './priority-semaphore.ts';
import { createUnverifiedLimit } from './unverified-limit.ts';

export interface ReviewCapacityOptions {
  /** The highest number of concurrent reviews. */
  readonly maxConcurrency: number;
  /** How many reviews may wait. Further ones are rejected immediately. */
  readonly maxQueue: number;
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
  readonly validTokensInUse?: () => boolean;
}

/** How many reviews may run now, adapted to the results of earlier ones. */
export interface ReviewCapacity {
  readonly queues: PrioritySemaphore;
  readonly limit: AdaptiveLimit;
  readonly pause: Pause;
  readonly waitEstimate: WaitEstimate;
  /** Records the result of a review that started at `startedAt`. */
  record(priority: Priority, result: AuthResult, startedAt: number): void;
}

/** Creates the slots for reviews. All limits adapt to the results. */
export function createReviewCapacity(options: ReviewCapacityOptions, now: () => number): ReviewCapacity {
  const { maxConcurrency, maxQueue, unverifiedShare, validTokensInUse = () => false } = options;
  const limit = aimdLimit(maxConcurrency, now);
  // If no signature can be verified, valid tokens are unverified too. They then keep a quarter of
  // the slots instead of one.
  const minSlots = (): number => (unverifiedShare() < 1 ? 1 : limit.current * MIN_UNVERIFIED_SHARE);
  const unverifiedLimit = createUnverifiedLimit({ validTokensInUse, minSlots, now });
  const queues = prioritySemaphore({
    limit: () => limit.current,
    maxQueue,
    unverifiedShare,
    unverifiedSlots: unverifiedLimit.current,
  });
  const pause = createPause(queues, now);
  const waitEstimate = createWaitEstimate(queues);
  return {
    queues,
    limit,
    pause,
    waitEstimate,
    record(priority, result, startedAt) {
      if (priority === 'unverified') unverifiedLimit.record(result);
      waitEstimate.record(priority, now() - startedAt);
      if (result.kind !== 'unavailable') {
        limit.onSuccess();
        pause.endAfterReview(startedAt);
      } else if (result.cause === 'too_many_requests') {
        limit.onThrottled(startedAt);
        pause.start(result.retryAfterSeconds * 1000);
      }
    },
  };
}

/** A pause in which only verified tokens get slots. */
interface Pause {
  readonly leftMs: number;
  /** Starts a pause; 0 ends the current one. */
  start(ms: number): void;
  /**
   * Ends the pause because a review was answered, so the API server has capacity again. A review
   * that started before the pause does not show that.
   */
  endAfterReview(startedAt: number): void;
}

/**
 * Creates the pause that the API server asks for with a 429. The reviews of verified
 * tokens show whether the API server has capacity again.
 */
function createPause(queues: PrioritySemaphore, now: () => number): Pause {
  let startedAt = Number.NEGATIVE_INFINITY;
  let until = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => {
    startedAt = Number.NEGATIVE_INFINITY;
    until = Number.NEGATIVE_INFINITY;
    queues.pauseLowPriority(false);
    clearTimeout(timer);
  };
  return {
    get leftMs() {
      return until - now();
    },
    start(ms) {
      if (ms === 0) return end();
      startedAt = now();
      until = startedAt + ms;
      queues.pauseLowPriority(true);
      clearTimeout(timer);
      timer = setTimeout(() => queues.pauseLowPriority(false), ms).unref();
    },
    endAfterReview(reviewStartedAt) {
      if (reviewStartedAt >= startedAt) end();
    },
  };
}

/** How long a caller would wait for a slot. */
interface WaitEstimate {
  record(priority: Priority, reviewMs: number): void;
  expectedMs(priority: Priority): number;
}

/**
 * Creates an estimate from the average duration of reviews. Averages are per priority: slow
 * rejections of invalid tokens must not inflate the expected wait of valid ones.
 */
function createWaitEstimate(queues: PrioritySemaphore): WaitEstimate {
  const averageMs: Record<Priority, number> = { verified: 0, unverified: 0, refresh: 0 };
  return {
    record(priority, reviewMs) {
      averageMs[priority] += (reviewMs - averageMs[priority]) * REVIEW_EWMA_WEIGHT;
    },
    expectedMs: priority =>
      (Math.ceil((queues.queued(priority) + 1) / queues.capacity(priority)) - 1) * averageMs[priority],
  };
}
