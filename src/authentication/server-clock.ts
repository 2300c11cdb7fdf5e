import type { KubeApiClient } from '../kube/api-client.ts';
import {
  CLOCK_DIFFERS_MS,
  CLOCK_FRESH_MS,
  CLOCK_MAX_DURATION_MS,
  CLOCK_MAX_STEP_MS,
  MAX_SKEW_MS,
} from '../limits/constants.ts';

/** `Date` contains whole seconds, rounded down. */
const RESOLUTION_MS = 1000;

/**
 * `unknown` if there is no comparison, the last one is too old, or gatecar's clock was set since.
 */
export type ClockState = 'agrees' | 'differs' | 'unknown';

/** The API server's clock, estimated from the `Date` of its responses (RFC 9110 §6.6.1). */
export interface ServerClock {
  readonly state: ClockState;
  /**
   * Until when a state of `agrees` lasts without another comparison, in milliseconds on the
   * monotonic clock.
   */
  readonly freshUntil: number;
  /**
   * How far gatecar's clock is ahead, in milliseconds; negative if it is behind, `undefined` before
   * the first response.
   */
  readonly skewMs: number | undefined;
  /**
   * The API server's time in milliseconds since the epoch; the local time before the first
   * response.
   */
  time(): number;
  /**
   * Compares the clocks. @param startedAt when the request was sent, in milliseconds on the
   * monotonic clock.
   */
  compare(sentAtMs: number, startedAt: number): void;
}

export interface ServerClockOptions {
  /**
   * Called when the clocks begin to differ by more than {@link MAX_SKEW_MS}, and when they agree
   * again.
   */
  readonly onChange?: (differs: boolean, skewMs: number) => void;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
  /** A monotonic clock in milliseconds. */
  readonly now?: () => number;
}

/** The skew is at least `low` and at most `high`. */
interface Bounds {
  readonly low: number;
  readonly high: number;
}

/** The readings of gatecar's two clocks at the last comparison, and the bounds of the skew. */
interface Comparison extends Bounds {
  readonly wall: number;
  readonly at: number;
}

/**
 * Estimates the API server's clock. Each response bounds the skew: it was sent between its request
 * and its arrival, and in the second that its `Date` names. Overlapping bounds narrow each other.
 *
 * API servers at one address may have different clocks. If one differs, token times are not checked
 * locally for a minute, even if the others agree. This rejects no valid token.
 */
export function serverClock(options: ServerClockOptions = {}): ServerClock {
  const { onChange = () => {}, wallClock = Date.now, now = () => performance.now() } = options;
  let last: Comparison | undefined;
  let differedAt = Number.NEGATIVE_INFINITY;
  let differs = false;

  const wasSet = ({ wall, at }: Comparison): boolean => Math.abs(wallClock() - wall - (now() - at)) > CLOCK_MAX_STEP_MS;

  return {
    get state() {
      if (last === undefined) return 'unknown';
      if (now() - differedAt < CLOCK_DIFFERS_MS) return 'differs';
      return now() - last.at >= CLOCK_FRESH_MS || wasSet(last) ? 'unknown' : 'agrees';
    },
    get freshUntil() {
      return (last?.at ?? Number.NEGATIVE_INFINITY) + CLOCK_FRESH_MS;
    },
    get skewMs() {
      return last && skewOf(last, (last.low + last.high) / 2);
    },
    time() {
      const wall = wallClock();
      if (last === undefined) return wall;
      // Takes the later time: a wall clock that was set back must not extend a token's life.
      return Math.max(wall, last.wall + now() - last.at) - skewOf(last, last.low);
    },
    compare(sentAtMs, startedAt) {
      const at = now();
      if (at - startedAt > CLOCK_MAX_DURATION_MS) return;
      const wall = wallClock();
      const bounds = { low: wall - (at - startedAt) - sentAtMs - RESOLUTION_MS, high: wall - sentAtMs };
      const narrowed = last === undefined || wasSet(last) ? bounds : (overlap(last, bounds) ?? bounds);
      last = { ...narrowed, wall, at };
      if (Math.max(-last.low, last.high) > MAX_SKEW_MS) differedAt = at;
      const differ = at - differedAt < CLOCK_DIFFERS_MS;
      if (differ === differs) return;
      differs = differ;
      onChange(differs, (last.low + last.high) / 2);
    },
  };
}

/** Corrects no skew that may be zero within the bounds. */
function skewOf({ low, high }: Bounds, skewMs: number): number {
  return low <= 0 && high >= 0 ? 0 : skewMs;
}

function overlap(one: Bounds, other: Bounds): Bounds | undefined {
  const low = Math.max(one.low, other.low);
  const high = Math.min(one.high, other.high);
  return low <= high ? { low, high } : undefined;
}

/**
 * Compares the clocks on each successful response. Other responses may come from a proxy and carry
 * the proxy's time.
 */
export function comparingClocks(
  inner: KubeApiClient,
  clock: Pick<ServerClock, 'compare'>,
  now: () => number = () => performance.now(),
): KubeApiClient {
  const compared = async (ask: () => ReturnType<KubeApiClient['get']>) => {
    const startedAt = now();
    const response = await ask();
    const isItsOwn = response.status === 200 || response.status === 201;
    if (isItsOwn && response.sentAtMs !== undefined) clock.compare(response.sentAtMs, startedAt);
    return response;
  };
  return {
    post: (path, body, signal, headers) => compared(() => inner.post(path, body, signal, headers)),
    get: (path, signal) => compared(() => inner.get(path, signal)),
    close: () => inner.close(),
  };
}
