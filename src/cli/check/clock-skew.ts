import { MAX_SKEW_MS } from '../../authentication/server-clock.ts';
import type { KubeApiClient } from '../../kube/api-client.ts';

/** What the two clocks say. */
export interface ClockSkew {
  readonly result: 'ok' | 'warn';
  readonly text: string;
  readonly fix?: string;
}

/** Asks as a connection does, and keeps in mind how far our clock is ahead of the API server's. */
export interface ClockSkewMeasurement {
  readonly connection: KubeApiClient;
  /** Milliseconds, negative where ours is behind; `undefined` while no answer told a time. */
  readonly aheadMs: number | undefined;
}

/** Reads the `Date` of each answer (RFC 9110 §6.6.1). */
export function measureClockSkew(inner: KubeApiClient, wallClock: () => number): ClockSkewMeasurement {
  let aheadMs: number | undefined;
  const noting = async (answer: ReturnType<KubeApiClient['get']>) => {
    const { sentAtMs } = await answer;
    // The header has whole seconds, cut.
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

/** Past the skew that the local checks allow, the API server is asked about the times of each token. */
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
