import type { Unavailable } from '../decision/decision.ts';
import type { Authority } from './token-authenticator.ts';

const OVERLOADED: Unavailable = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'event loop behind',
  retryAfterSeconds: 1,
};

export interface SheddingOptions {
  /** By how much the event loop is behind, in milliseconds. */
  readonly lagMs: () => number;
  readonly maxLagMs: number;
  readonly onShed?: () => void;
}

/**
 * Turns new questions away while this process cannot keep up. It stands behind the cache: what is known costs less to
 * answer than to explain a refusal, and is answered to the last. Renewals go on, or what is known would soon be new.
 */
export function shedding(inner: Authority, { lagMs, maxLagMs, onShed = () => {} }: SheddingOptions): Authority {
  return {
    review(token, asking) {
      if (asking?.lane === 'refresh' || lagMs() <= maxLagMs) return inner.review(token, asking);
      onShed();
      return OVERLOADED;
    },
  };
}
