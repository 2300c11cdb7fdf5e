type Labels = Readonly<Record<string, string>>;

/**
 * The part of a metric that the registry uses. prom-client's own counters build label keys on each
 * increment. gatecar's counters are plain numbers that are read on each scrape.
 */
export interface ScrapedMetric {
  readonly name: string;
  get(): Promise<{
    readonly name: string;
    readonly help: string;
    readonly type: MetricType;
    readonly values: readonly MetricValue[];
    readonly aggregator: 'sum';
  }>;
}

type MetricType = 'counter' | 'gauge' | 'histogram';

interface MetricValue {
  readonly value: number;
  readonly labels: Labels;
  readonly metricName?: string;
}

/** Creates a metric whose values are read only on a scrape. `kind` is the Prometheus type. */
export function lazyMetric(
  kind: 'counter' | 'gauge',
  name: string,
  help: string,
  collect: () => Iterable<readonly [labels: Labels, value: number]>,
): ScrapedMetric {
  return metric(name, help, kind, () => Array.from(collect(), ([labels, value]) => ({ labels, value })));
}

/** Counts by one label. Each label value appears after its first increment. */
export class LabelledCounter<K extends string> {
  readonly #counts = new Map<K, number>();

  /** @param known label values that start at 0, because `rate()` needs a first sample. */
  constructor(known: readonly K[] = []) {
    for (const key of known) this.#counts.set(key, 0);
  }

  add(key: K): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  entries(): IterableIterator<[K, number]> {
    return this.#counts.entries();
  }
}

/** A Prometheus histogram with fixed bounds. */
export class PlainHistogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** @param bounds upper bounds in ascending order, without `+Inf`. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    let at = 0;
    while (at < this.#bounds.length && value > (this.#bounds[at] as number)) at += 1;
    (this.#counts[at] as number) += 1;
    this.#sum += value;
  }

  *values(name: string, labels: Labels): IterableIterator<MetricValue> {
    let cumulative = 0;
    for (const [at, count] of this.#counts.entries()) {
      cumulative += count;
      const le = at < this.#bounds.length ? String(this.#bounds[at]) : '+Inf';
      yield { metricName: `${name}_bucket`, labels: { ...labels, le }, value: cumulative };
    }
    yield { metricName: `${name}_sum`, labels, value: this.#sum };
    yield { metricName: `${name}_count`, labels, value: cumulative };
  }
}

/** Combines histograms of one name with different labels into one metric. */
export function scrapedHistograms(
  name: string,
  help: string,
  histograms: readonly (readonly [labels: Labels, histogram: PlainHistogram])[],
): ScrapedMetric {
  return metric(name, help, 'histogram', () =>
    histograms.flatMap(([labels, histogram]) => [...histogram.values(name, labels)]),
  );
}

function metric(name: string, help: string, type: MetricType, values: () => MetricValue[]): ScrapedMetric {
  return { name, get: async () => ({ name, help, type, values: values(), aggregator: 'sum' }) };
}
