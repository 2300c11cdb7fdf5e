import { overloaded } from '../decision/decision.ts';
import { MAX_EVENT_LOOP_LAG_MS } from '../limits/constants.ts';
import type { TokenAuthenticator } from './token-authenticator.ts';

const OVERLOADED = overloaded('event_loop_lag');

export interface LoadSheddingOptions {
  /** How far the event loop is behind, in milliseconds. */
  readonly lagMs: () => number;
  readonly onShed?: () => void;
}

/**
 * Rejects new reviews as `overloaded` while the event loop is behind. This stage is behind the
 * cache, because a cached result costs less than an error response: cached results are always
 * served.
 *
 * Refreshes continue. Otherwise cached results would soon expire and need new reviews.
 */
export function withLoadShedding(
  inner: TokenAuthenticator,
  { lagMs, onShed }: LoadSheddingOptions,
): TokenAuthenticator {
  return {
    authenticate(token, context) {
      if (context?.priority === 'refresh' || lagMs() <= MAX_EVENT_LOOP_LAG_MS)
        return inner.authenticate(token, context);
      onShed?.();
      return OVERLOADED;
    },
  };
}
