import type { KubeConnection } from '../../kube/api-client.ts';
import { MAX_SKEW_MS } from '../../authentication/server-clock.ts';

/** What the two clocks say. */
export interface ClockDifference {
  readonly result: 'ok' | 'warn';
  readonly text: string;
  readonly mend?: string;
}

/** Asks as a connection does, and keeps in mind how far our clock is ahead of the API server's. */
export interface ClockWatch {
  readonly connection: KubeConnection;
  /** Milliseconds, negative where ours is behind; `undefined` while no answer told a time. */
  readonly aheadMs: number | undefined;
}

/** Reads the `Date` of each answer (RFC 9110 §6.6.1). */
export function watchClock(inner: KubeConnection, wallClock: () => number): ClockWatch {
  let aheadMs: number | undefined;
  const noting = async (answer: ReturnType<KubeConnection['get']>) => {
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
export function judgeClocks(aheadMs: number): ClockDifference {
  const off = Math.abs(aheadMs);
  const allowed = `${MAX_SKEW_MS / 1000} s`;
  if (off <= MAX_SKEW_MS) return { result: 'ok', text: `no more than ${allowed} apart` };
  const where = `this machine's clock is ${Math.round(off / 1000)} s ${aheadMs < 0 ? 'behind' : 'ahead of'} the API server's`;
  return {
    result: 'warn',
    text: `${where}: past ${allowed}, token times are not checked here, and expired tokens cost a review each`,
    mend: 'timedatectl status   # on the node of gatecar, and on that of the API server',
  };
}
