import { overloaded } from '../../decision/decision.ts';
import { WAITING_REQUEST_BYTES } from '../../limits/constants.ts';
import type { AuthResult, ReviewContext } from '../token-authenticator.ts';

const OVERLOADED = overloaded('waiting_memory_full');

/** The memory budget for waiting requests, for the whole process. */
export interface WaitingMemory {
  /** Reserves memory. @returns false if the budget does not suffice; nothing is then reserved. */
  tryReserve(bytes: number): boolean;
  release(bytes: number): void;
}

export interface WaitingLimitOptions {
  /** Memory for requests that wait for a review. Without it, they have no limit. */
  readonly waiting?: WaitingMemory;
  /** Called for each request that is rejected because the memory budget is used up. */
  readonly onWaitingMemoryFull?: () => void;
}

/**
 * Limits the memory of requests that wait for a review.
 *
 * @returns a function that runs a review while the request's memory is reserved. If the budget is
 *   used up, it rejects the request instead.
 */
export function waitingLimit({
  waiting = { tryReserve: () => true, release: () => {} },
  onWaitingMemoryFull = () => {},
}: WaitingLimitOptions): (
  context: ReviewContext | undefined,
  review: () => AuthResult | Promise<AuthResult>,
) => AuthResult | Promise<AuthResult> {
  return (context, review) => {
    const heldBytes = context?.heldBytes ?? WAITING_REQUEST_BYTES;
    if (!waiting.tryReserve(heldBytes)) {
      onWaitingMemoryFull();
      return OVERLOADED;
    }
    const result = review();
    if (result instanceof Promise) return result.finally(() => waiting.release(heldBytes));
    waiting.release(heldBytes);
    return result;
  };
}
