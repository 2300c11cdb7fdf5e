import type { KubeApiClient } from '../../kube/api-client.ts';
import { MAX_SKEW_MS } from '../../limits/constants.ts';

/** The result of comparing the two clocks. */
export interface ClockSkew {
  readonly result: 'ok' | 'warn';
  readonly text: string;
  readonly fix?: string;
}

/** An API client that also measures how far gatecar's clock is ahead of the API server's. */
export interface ClockSkewMeasurement {
  readonly connection: KubeApiClient;
  /** Milliseconds; negative if gatecar's is behind. `undefined` until a response has a `Date`. */
  readonly aheadMs: number | undefined;
}

/** Wraps a client to read the `Date` of each response (RFC 9110 §6.6.1). */
export function measureClockSkew(inner: KubeApiClient, wallClock: () => number): ClockSkewMeasurement {
  let aheadMs: number | undefined;
  const noting = async (answer: ReturnType<KubeApiClient['get']>) => {
    const { sentAtMs } = await answer;
    // `Date` is truncated to whole seconds. Half a second is added to make the mean error zero.
    if (sentAtMs !== undefined) aheadMs = wallClock() - (sentAtMs + 500);
    return answer;
  };
  return {
    connection: {
      post: (path, body, signal) => noting(inner.post(path, body, signal)),
      get: (path, signal) => noting(inner.get(path, signal)),
      close: () => inner.close(),
    },
    get aheadMs() {
      return aheadMs;
    },
  };
}

/**
 * Warns if the skew is larger than the local checks allow. In this case the API server checks the
 * times of each token.
 */
export function assessClockSkew(aheadMs: number): ClockSkew {
  const off = Math.abs(aheadMs);
  const allowed = `${MAX_SKEW_MS / 1000} s`;
  if (off <= MAX_SKEW_MS) return { result: 'ok', text: `no more than ${allowed} apart` };
  const where = `this machine's clock is ${Math.round(off / 1000)} s ${aheadMs < 0 ? 'behind' : 'ahead of'} the API server's`;
  return {
    result: 'warn',
    text: `${where}: past ${allowed}, token times are not checked here, and expired tokens cost a review each`,
    fix: 'timedatectl status   # on the node of gatecar, and on that of the API server',
  };
}
