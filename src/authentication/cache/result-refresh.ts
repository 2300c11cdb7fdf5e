import type { Token } from '../../credential/token.ts';
import { REFRESH_EWMA_WEIGHT, REFRESH_MARGIN_DURATIONS } from '../../limits/constants.ts';
import { unreferencedTimer } from '../../system/unreferenced-timer.ts';
import type { AuthResult, TokenAuthenticator } from '../token-authenticator.ts';
import type { CacheKey } from './cache-key.ts';
import type { CachedResult, CachedResults } from './cached-result.ts';
import { refreshTime } from './refresh-schedule.ts';

export interface ResultRefreshOptions {
  /** How long a review may take, including the wait for a slot, in milliseconds. */
  readonly reviewTimeoutMs: number;
  /** Called with the outcome of each refresh. */
  readonly onRefresh?: (outcome: AuthResult['kind']) => void;
  /** Milliseconds on the clock of the stores. */
  readonly now?: () => number;
  /** Returns a number from 0 up to 1. */
  readonly random?: () => number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
}

/**
 * Refreshes cached results in the background, each once.
 *
 * @returns a function that schedules the refresh of a result before it expires.
 */
export function createResultRefresh(
  inner: TokenAuthenticator,
  results: CachedResults,
  options: ResultRefreshOptions,
): (key: CacheKey, token: Token, cached: CachedResult) => void {
  const { reviewTimeoutMs, onRefresh = () => {}, now = () => performance.now(), random = Math.random } = options;
  const { setTimer = unreferencedTimer } = options;
  let averageMs = 0;

  const refresh = async (key: CacheKey, token: Token, cached: CachedResult): Promise<void> => {
    // Skips an entry that was evicted or replaced, for example after a rejection.
    if (!results.isCurrent(key, cached)) return;
    const startedAt = now();
    const result = await inner.authenticate(token, {
      signal: AbortSignal.timeout(reviewTimeoutMs),
      priority: 'refresh',
    });
    averageMs += (now() - startedAt - averageMs) * REFRESH_EWMA_WEIGHT;
    onRefresh(result.kind);
    // An authenticated result counts only if the entry was not replaced in the meantime.
    if (result.kind === 'rejected' || results.isCurrent(key, cached)) results.store(key, token, result);
  };

  return (key, token, cached) => {
    cached.refreshing = true;
    const beginAt = Math.min(refreshTime(cached, random()), cached.freshUntil - averageMs * REFRESH_MARGIN_DURATIONS);
    setTimer(() => void refresh(key, token, cached), Math.max(0, beginAt - now()));
  };
}
