import { UNVERIFIED_LIMIT_DECAY_MS } from '../../limits/constants.ts';
import type { AuthResult } from '../token-authenticator.ts';

/** How many slots tokens with unverified signatures may use, adapted to their results. */
export interface UnverifiedLimit {
  /** Returns the current limit. @param share the highest number of slots for these tokens. */
  current(share: number): number;
  /** Records the result of a review of an unverified token. */
  record(result: AuthResult): void;
}

export interface UnverifiedLimitOptions {
  /** Whether valid tokens are in use. */
  readonly validTokensInUse: () => boolean;
  /** How many slots the priority keeps, however many tokens are rejected. One slot always stays. */
  readonly minSlots: () => number;
  readonly now: () => number;
}

/**
 * Creates an adaptive limit for unverified tokens (AIMD). While valid tokens are in use, each
 * rejection halves the limit, but never below `minSlots()`. Each authenticated token raises it by
 * one. The limit resets one second after the last rejection.
 *
 * Invalid tokens take API server time from all clients, even with few slots. Valid tokens of this
 * priority raise the limit again.
 */
export function createUnverifiedLimit({ validTokensInUse, minSlots, now }: UnverifiedLimitOptions): UnverifiedLimit {
  let capacity = Number.POSITIVE_INFINITY;
  let rejectedAt = Number.NEGATIVE_INFINITY;
  let lastShare = 1;
  return {
    current(share) {
      lastShare = share;
      const isLowered = validTokensInUse() && now() - rejectedAt < UNVERIFIED_LIMIT_DECAY_MS;
      if (!isLowered) capacity = share;
      return Math.min(share, Math.max(1, Math.floor(minSlots()), Math.floor(capacity)));
    },
    record(result) {
      if (result.kind === 'authenticated') capacity = Math.min(lastShare, capacity + 1);
      if (result.kind !== 'rejected') return;
      rejectedAt = now();
      capacity = Math.max(1, minSlots(), Math.min(lastShare, capacity) / 2);
    },
  };
}
