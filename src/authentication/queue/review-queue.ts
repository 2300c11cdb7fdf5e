import type { Token } from '../../credential/token.ts';
import { overloaded, type Unavailable } from '../../decision/decision.ts';
import {
  type AuthResult,
  type Priority,
  type ReviewContext,
  type TokenAuthenticator,
  unavailable,
} from '../token-authenticator.ts';
import type { PrioritySemaphore } from './priority-semaphore.ts';
import { createReviewCapacity, type ReviewCapacityOptions } from './review-capacity.ts';

/** Why a review was not admitted. */
export type QueueRejection = 'queue_full' | 'queue_timeout';

export interface ReviewQueueOptions extends ReviewCapacityOptions {
  /**
   * How long a review may wait, in milliseconds. A review that started later would time out and
   * look like a fault of the API server.
   */
  readonly maxWaitMs: number;
  /** Called with the time that an admitted review has waited, in seconds. */
  readonly onAdmitted?: (queuedSeconds: number) => void;
  readonly onRejected?: (priority: Priority, why: QueueRejection) => void;
  readonly now?: () => number;
}

/** A {@link TokenAuthenticator} that limits the load on the next stage, and reports that load. */
export interface ReviewQueue extends TokenAuthenticator {
  /** How many reviews may run at once now. */
  readonly limit: number;
  inFlight(priority: Priority): number;
  queued(priority: Priority): number;
}

const OVERLOADED = overloaded('too_many_reviews');

/**
 * Limits how many reviews run at once, not how many start per second. A client-side rate limit can
 * delay requests far longer than the API server needs. The limit falls when the API server answers
 * 429, and rises with its other answers.
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
  const { maxWaitMs, now = () => performance.now(), onAdmitted = () => {}, onRejected = () => {} } = options;
  const { queues, limit, pause, waitEstimate, record } = createReviewCapacity(options, now);

  const run = async (priority: Priority, token: Token, context: ReviewContext): Promise<AuthResult> => {
    const startedAt = now();
    try {
      const result = await inner.authenticate(token, context);
      record(priority, result, startedAt);
      return result;
    } finally {
      queues.release(priority);
    }
  };

  const wait = async (priority: Priority, token: Token, context: ReviewContext): Promise<AuthResult> => {
    const start = now();
    if (!(await waitForSlot(queues, priority, context.signal))) return rejectAs(priority, 'queue_timeout');
    const waitedMs = now() - start;
    if (waitedMs > maxWaitMs) {
      queues.release(priority);
      return rejectAs(priority, 'queue_timeout');
    }
    onAdmitted(waitedMs / 1000);
    return run(priority, token, context);
  };

  const rejectAs = (priority: Priority, why: QueueRejection): Unavailable => {
    onRejected(priority, why);
    return OVERLOADED;
  };

  return {
    get limit() {
      return limit.current;
    },
    inFlight: priority => queues.inFlight(priority),
    queued: priority => queues.queued(priority),
    authenticate(token, context = {}) {
      const priority = context.priority ?? 'unverified';
      if (queues.tryAcquire(priority)) {
        onAdmitted(0);
        return run(priority, token, context);
      }
      if (queues.isFull(priority)) return rejectAs(priority, 'queue_full');
      // The API server asked for this pause, so it is not reported as gatecar's own limit. The
      // review does not wait, because the API server may extend the pause.
      if (priority !== 'verified' && pause.leftMs > 0) {
        return unavailable('too_many_requests', Math.ceil(pause.leftMs / 1000));
      }
      if (waitEstimate.expectedMs(priority) > maxWaitMs) return rejectAs(priority, 'queue_timeout');
      return wait(priority, token, context);
    },
  };
}

/** Waits for a slot. @returns whether it came before the signal aborted. */
function waitForSlot(queues: PrioritySemaphore, priority: Priority, signal: AbortSignal | undefined): Promise<boolean> {
  return new Promise(resolve => {
    const giveUp = queues.enqueue(priority, () => {
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
