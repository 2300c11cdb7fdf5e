import { type Sample, sumOf, valuesOf } from './metrics-text.ts';

/** The metrics at one time. */
export interface Snapshot {
  /** Milliseconds since the epoch. */
  readonly atMs: number;
  readonly samples: readonly Sample[];
}

/** The changes between two snapshots, or since the start of the process. */
export interface Interval {
  readonly now: readonly Sample[];
  readonly seconds: number;
  readonly isSinceStart: boolean;
  /** The increase of a counter. */
  increase(name: string, labels?: Sample['labels']): number;
  /** The increase of a counter per second. */
  rate(name: string, labels?: Sample['labels']): number;
  /** A quantile of a histogram in seconds; `undefined` without observations. */
  quantile(name: string, share: number, labels?: Sample['labels']): number | undefined;
}

/** Returns when the process started, in seconds since the epoch. It identifies the process. */
export function startOf({ samples }: Snapshot): number {
  return sumOf(samples, 'process_start_time_seconds');
}

/** Compares two snapshots of one process. Without an earlier one it starts with the process. */
export function intervalOf(latest: Snapshot, earlier?: Snapshot): Interval {
  const now = latest.samples;
  const before = earlier?.samples ?? [];
  const sinceMs = earlier?.atMs ?? startOf(latest) * 1000;
  // Never 0: a clock may be set back, and that of another machine may be ahead.
  const seconds = Math.max(0.001, (latest.atMs - sinceMs) / 1000);
  const increase: Interval['increase'] = (name, labels) => sumOf(now, name, labels) - sumOf(before, name, labels);
  return {
    now,
    seconds,
    isSinceStart: earlier === undefined,
    increase,
    rate: (name, labels) => increase(name, labels) / seconds,
    quantile(name, share, labels = {}) {
      const bounds = valuesOf(now, `${name}_bucket`, 'le', labels);
      const buckets = bounds.map(le => [boundOf(le), increase(`${name}_bucket`, { ...labels, le })] as const);
      return quantileOf(buckets, share);
    },
  };
}

function boundOf(le: string): number {
  return Number(le.replace('Inf', 'Infinity'));
}

/**
 * Interpolates within a bucket, as Prometheus' `histogram_quantile` does. Returns the highest
 * finite bound if the quantile is above it.
 *
 * @param buckets cumulative, in the order of their bounds.
 */
function quantileOf(buckets: readonly (readonly [bound: number, count: number])[], share: number): number | undefined {
  const wanted = share * Math.max(0, ...buckets.map(([, count]) => count));
  let [from, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (wanted > 0 && count >= wanted) {
      if (bound === Number.POSITIVE_INFINITY) return from;
      return from + ((bound - from) * (wanted - below)) / (count - below);
    }
    [from, below] = [bound, count];
  }
  return undefined;
}
