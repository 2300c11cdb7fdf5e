import type { AuthResult } from '../token-authenticator.ts';

/** How many places tokens of unverified signature have, by what becomes of them. */
export interface UnverifiedLimit {
  /** @param share how many are theirs at the most. */
  current(share: number): number;
  /** What a review of one of them came to. */
  learn(verdict: AuthResult): void;
}

export interface UnverifiedLimitOptions {
  /** Whether good tokens are asked about now. */
  readonly protecting: () => boolean;
  /** How many places the priority keeps, however much is refused; never less than one. */
  readonly kept: () => number;
  readonly now: () => number;
}

/** How long after a refusal its priority still yields, in milliseconds: junk that ended is not held against who comes next. */
const DECAY_MS = 1000;

/**
 * The priority of unverified tokens yields while the API server refuses them and somebody's good token is asked about: each
 * refusal halves its places, down to those it keeps, and each yes gives one back. However few of the API server's places junk has, it is
 * the API server's time that it takes from everybody; and those of the priority that are good earn it more.
 */
export function createUnverifiedLimit({ protecting, kept, now }: UnverifiedLimitOptions): UnverifiedLimit {
  let places = Number.POSITIVE_INFINITY;
  let refusedAt = Number.NEGATIVE_INFINITY;
  let lastShare = 1;
  return {
    current(share) {
      lastShare = share;
      const yields = protecting() && now() - refusedAt < DECAY_MS;
      if (!yields) places = share;
      return Math.min(share, Math.max(1, Math.floor(kept()), Math.floor(places)));
    },
    learn(verdict) {
      if (verdict.kind === 'authenticated') places = Math.min(lastShare, places + 1);
      if (verdict.kind !== 'rejected') return;
      refusedAt = now();
      places = Math.max(1, kept(), Math.min(lastShare, places) / 2);
    },
  };
}
