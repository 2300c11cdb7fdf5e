import type { Token } from '../credential/token.ts';
import { unreferencedTimer } from '../system/unreferenced-timer.ts';
import type { AuthResult, ReviewContext, TokenAuthenticator } from './token-authenticator.ts';

export interface RejectionThrottleOptions {
  /** Whether valid tokens are in use. If not, nothing is delayed. */
  readonly isActive: () => boolean;
  /** Whether a token's results are never delayed, because its signature is valid. */
  readonly isExempt?: (token: Token) => boolean;
  /** One delayed result is returned per interval, in milliseconds. */
  readonly intervalMs: number;
  /** How many results may wait. Further ones are returned immediately. */
  readonly maxWaiting: number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
}

/**
 * Delays rejections and `overloaded` results of tokens without a verified signature while valid
 * tokens are in use. A client that floods invalid tokens sends the next request when it has the
 * previous response. Delayed responses therefore limit its share of the event loop, of the gateway
 * and of the API server.
 *
 * Other faults are returned immediately, because a valid client may be waiting. Refreshes are never
 * delayed: no client waits, and a rejected refresh must end a cached result at once.
 *
 * A delay ends at the latest when the request's signal aborts. After that, the cache would report a
 * timeout, and stale-if-error could allow a token that the API server has just rejected.
 */
export function withRejectionThrottle(
  inner: TokenAuthenticator,
  options: RejectionThrottleOptions,
): TokenAuthenticator {
  const { isActive, isExempt = () => false, intervalMs, maxWaiting, setTimer = unreferencedTimer } = options;
  // A Set iterates in insertion order, so results are returned first in, first out.
  const waiting = new Set<() => void>();
  let isTimerSet = false;

  const startTimer = (): void => {
    if (isTimerSet || waiting.size === 0) return;
    isTimerSet = true;
    setTimer(() => {
      isTimerSet = false;
      const [release] = waiting;
      release?.();
      startTimer();
    }, intervalMs);
  };

  const waitForSlot = (signal: AbortSignal | undefined): Promise<void> =>
    new Promise(resolve => {
      const release = (): void => {
        waiting.delete(release);
        signal?.removeEventListener('abort', release);
        resolve();
      };
      waiting.add(release);
      signal?.addEventListener('abort', release, { once: true });
      startTimer();
    });

  const delay = (result: AuthResult, token: Token, context: ReviewContext): AuthResult | Promise<AuthResult> => {
    if (!isDelayed(result) || !isActive() || isExempt(token) || waiting.size >= maxWaiting) return result;
    // Reading `context.signal` creates it, so it is read only if needed.
    const { signal } = context;
    return signal?.aborted ? result : waitForSlot(signal).then(() => result);
  };

  return {
    authenticate(token, context = {}) {
      const result = inner.authenticate(token, context);
      if (context.priority === 'refresh') return result;
      return result instanceof Promise
        ? result.then(reviewed => delay(reviewed, token, context))
        : delay(result, token, context);
    },
  };
}

function isDelayed(result: AuthResult): boolean {
  return result.kind === 'rejected' || (result.kind === 'unavailable' && result.reason === 'overloaded');
}
