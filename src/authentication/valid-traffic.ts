import { VALID_TRAFFIC_MS } from '../limits/constants.ts';

/** Whether valid tokens are in use, so that there is traffic to protect from invalid ones. */
export interface ValidTraffic {
  /** Records that a token was found valid: in the cache, or by its signature. */
  note(): void;
  /** Whether that happened within the last second. */
  isActive(): boolean;
}

/** Creates the record. @param now the monotonic time, in milliseconds. */
export function createValidTraffic(now: () => number = () => performance.now()): ValidTraffic {
  let activeUntil = Number.NEGATIVE_INFINITY;
  return {
    note() {
      activeUntil = now() + VALID_TRAFFIC_MS;
    },
    isActive: () => now() < activeUntil,
  };
}
