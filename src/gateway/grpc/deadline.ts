import type { Decision, Unavailable } from '../../decision/decision.ts';
import { DEADLINE_MARGIN_SHARE, DEADLINE_MIN_MARGIN_MS } from '../../limits/constants.ts';
import type { GrpcCall } from './grpc-call.ts';

/** The decision on a request that could not be decided in time. */
export const LATE: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 1,
};

/**
 * Maximum delay of Node's timers, in milliseconds. A timer with a longer delay fires immediately.
 */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The units of `grpc-timeout` in milliseconds. */
const TIMEOUT_UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * Waits for the decision, but not past the gateway's deadline. A review in progress continues.
 *
 * @returns the decision, or {@link LATE} shortly before the deadline. If the call failed instead, a
 *   gateway might fail open.
 */
export async function beforeDeadline(
  call: GrpcCall,
  decision: Promise<Decision>,
  now: () => number,
): Promise<Decision> {
  const timeoutMs = timeoutOf(call);
  if (timeoutMs === undefined) return decision;
  const leftMs = call.startMs + timeoutMs - now();
  const waitMs = leftMs - Math.max(leftMs * DEADLINE_MARGIN_SHARE, DEADLINE_MIN_MARGIN_MS);
  const late = Promise.withResolvers<Decision>();
  const timer = setTimeout(() => late.resolve(LATE), Math.min(Math.max(waitMs, 0), MAX_TIMER_MS));
  try {
    return await Promise.race([decision, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @returns the gateway's timeout in milliseconds. An invalid value sets no limit, because a late
 *   response is better than a failed call.
 */
function timeoutOf({ headers }: GrpcCall): number | undefined {
  const [, value, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(headers['grpc-timeout'])) ?? [];
  return value === undefined ? undefined : Number(value) * (TIMEOUT_UNITS[unit] as number);
}
