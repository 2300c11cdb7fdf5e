import type { Token } from '../credential/token.ts';
import { VALID_TRAFFIC_MS } from '../limits/constants.ts';

/** Whether valid tokens are in use, so that there is traffic to protect from invalid ones. */
export interface ValidTraffic {
  /** Records that a token was found in the cache. */
  note(): void;
  /** Records that the signature of a token is valid. */
  noteVerified(token: Token): void;
  /** Whether {@link noteVerified} was called with this token. */
  isVerified(token: Token): boolean;
  /** Whether a valid token was recorded within the last second. */
  isActive(): boolean;
}

/** Creates the record. @param now the monotonic time, in milliseconds. */
export function createValidTraffic(now: () => number = () => performance.now()): ValidTraffic {
  let activeUntil = Number.NEGATIVE_INFINITY;
  const verified = new WeakSet<Token>();
  const note = (): void => {
    activeUntil = now() + VALID_TRAFFIC_MS;
  };
  return {
    note,
    noteVerified(token) {
      verified.add(token);
      note();
    },
    isVerified: token => verified.has(token),
    isActive: () => now() < activeUntil,
  };
}
