import type { Unavailable } from '../decision/decision.ts';
import type { TokenAuthenticator } from './token-authenticator.ts';

const OVERLOADED: Unavailable = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'event loop behind',
  retryAfterSeconds: 1,
};

export interface LoadSheddingOptions {
  /** By how much the event loop is behind, in milliseconds. */
  readonly lagMs: () => number;
  readonly maxLagMs: number;
  readonly onShed?: () => void;
}

/**
 * Turns new questions away while this process cannot keep up. It stands behind the cache: what is known costs less to
 * answer than to explain a refusal, and is answered to the last. Renewals go on, or what is known would soon be new.
 */
export function withLoadShedding(
  inner: TokenAuthenticator,
  { lagMs, maxLagMs, onShed = () => {} }: LoadSheddingOptions,
): TokenAuthenticator {
  return {
    authenticate(token, asking) {
      if (asking?.priority === 'refresh' || lagMs() <= maxLagMs) return inner.authenticate(token, asking);
      onShed();
      return OVERLOADED;
    },
  };
}
