import { LEEWAY_MS } from '../authority/examined.ts';
import type { KubeConnection } from '../authority/kube-connection.ts';

/** A difference that is worth a word: half of what is left of the leeway after that of the API server. */
const DOUBTFUL_MS = 30_000;

/** What the two clocks say. */
export interface ClockDifference {
  readonly result: 'ok' | 'warn' | 'fail';
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

/** Past the leeway of the local checks a fresh token is refused as not yet valid, or a good one as expired. */
export function judgeClocks(aheadMs: number): ClockDifference {
  const off = Math.abs(aheadMs);
  const seconds = `${Math.round(off / 1000)} s`;
  const where = `this machine's clock is ${seconds} ${aheadMs < 0 ? 'behind' : 'ahead of'} the API server's`;
  if (off <= DOUBTFUL_MS) return { result: 'ok', text: `no more than ${DOUBTFUL_MS / 1000} s apart` };
  const mend = 'timedatectl status   # on the node of gatecar, and on that of the API server';
  if (off <= LEEWAY_MS) return { result: 'warn', text: where, mend };
  return { result: 'fail', text: `${where}: past ${LEEWAY_MS / 1000} s, good tokens are refused here`, mend };
}
