import type { Priority } from '../authentication/token-authenticator.ts';
import { type Counters, PRIORITIES, STORES, type Store } from './counters.ts';
import { type LabelledCounter, lazyMetric, type ScrapedMetric, scrapedHistograms } from './metric-types.ts';

/** Functions that read the gauges on each scrape. */
export interface Gauges {
  readonly entries: (store: Store) => number;
  readonly inFlight: (priority: Priority) => number;
  readonly queued: (priority: Priority) => number;
  readonly reviewLimit: () => number;
  readonly apiServerUp: () => boolean;
  readonly servingStale: () => boolean;
  /** `undefined` before the first response. */
  readonly clockSkewMs: () => number | undefined;
}

/** State of the log's output, as of the scrape. */
export interface LogOutput {
  readonly droppedLines: () => number;
  readonly failedWrites: () => number;
}

/**
 * A memory limit that requests or connections share, and its use at the time of the scrape, in
 * bytes.
 */
export interface MemoryBudget {
  readonly limitBytes: number;
  readonly usedBytes: number;
}

export type MemoryBudgets = Readonly<Record<'connections' | 'transfers' | 'waiting', MemoryBudget>>;

/** What the gauges read. The modules behind them set it after the metrics exist. */
export interface GaugeSources {
  gauges?: Gauges;
  jwksAvailable?: boolean;
  notAfterSeconds?: () => number;
  budgets?: MemoryBudgets;
  output?: LogOutput;
}

/** Metrics of decisions, for both protocols. */
export function decisionMetrics({ requests, durations }: Counters): ScrapedMetric[] {
  return [
    lazyMetric('counter', 'gatecar_requests_total', 'Decisions, by protocol, decision and reason.', () =>
      Object.entries(requests).flatMap(([protocol, counter]) =>
        pairs(counter, key => {
          const [decision = '', reason = ''] = key.split(' ');
          return { protocol, decision, reason };
        }),
      ),
    ),
    scrapedHistograms(
      'gatecar_request_duration_seconds',
      'Time from a request to its response.',
      Object.entries(durations).map(([decision, histogram]) => [{ decision }, histogram] as const),
    ),
  ];
}

/** Metrics of the result cache. */
export function cacheMetrics({ lookups, evictions, refreshes }: Counters, sources: GaugeSources): ScrapedMetric[] {
  return [
    lazyMetric('counter', 'gatecar_cache_lookups_total', 'Cache look-ups, by result.', () =>
      pairs(lookups, result => ({ result })),
    ),
    lazyMetric('gauge', 'gatecar_cache_entries', 'Cached results, by store.', () =>
      eachOf(STORES, 'store', sources.gauges?.entries),
    ),
    lazyMetric('counter', 'gatecar_cache_evictions_total', 'Results removed from the cache, by store and cause.', () =>
      pairs(evictions, key => twoLabels(key, 'store', 'cause')),
    ),
    lazyMetric('counter', 'gatecar_cache_refreshes_total', 'Refreshes of cached results, by outcome.', () =>
      pairs(refreshes, outcome => ({ outcome })),
    ),
    lazyMetric('gauge', 'gatecar_serving_stale', 'Whether expired results are served (stale-if-error): 1 or 0.', () =>
      sources.gauges === undefined ? [] : [[{}, sources.gauges.servingStale() ? 1 : 0]],
    ),
  ];
}

/** Metrics of TokenReviews, their queue, and the checks before them. */
export function reviewMetrics(counters: Counters, sources: GaugeSources): ScrapedMetric[] {
  return [
    lazyMetric('counter', 'gatecar_reviews_total', 'TokenReview requests, by outcome.', () =>
      pairs(counters.reviews, outcome => ({ outcome })),
    ),
    scrapedHistograms('gatecar_review_duration_seconds', 'Duration of TokenReview requests.', [
      [{}, counters.reviewDuration],
    ]),
    lazyMetric('gauge', 'gatecar_reviews_in_flight', 'TokenReview requests in flight, by priority.', () =>
      eachOf(PRIORITIES, 'priority', sources.gauges?.inFlight),
    ),
    lazyMetric('gauge', 'gatecar_reviews_queued', 'TokenReview requests that wait for a slot, by priority.', () =>
      eachOf(PRIORITIES, 'priority', sources.gauges?.queued),
    ),
    scrapedHistograms('gatecar_review_queue_duration_seconds', 'Time that reviews waited for a slot.', [
      [{}, counters.queueDuration],
    ]),
    lazyMetric('gauge', 'gatecar_review_concurrency_limit', 'Current limit on concurrent TokenReviews.', () =>
      sources.gauges === undefined ? [] : [[{}, sources.gauges.reviewLimit()]],
    ),
    lazyMetric('counter', 'gatecar_reviews_rejected_total', 'Reviews that were not sent, by priority and reason.', () =>
      pairs(counters.reviewsRejected, key => twoLabels(key, 'priority', 'reason')),
    ),
    lazyMetric('counter', 'gatecar_local_rejections_total', 'Tokens rejected without a TokenReview, by reason.', () =>
      pairs(counters.localRejections, reason => ({ reason })),
    ),
    lazyMetric('counter', 'gatecar_jwks_fetches_total', 'Fetches of the cluster JWKS, by outcome.', () =>
      pairs(counters.jwksFetches, outcome => ({ outcome })),
    ),
    lazyMetric(
      'gauge',
      'gatecar_jwks_available',
      'Whether the last fetch of the cluster JWKS succeeded: 1 or 0.',
      () => (sources.jwksAvailable === undefined ? [] : [[{}, sources.jwksAvailable ? 1 : 0]]),
    ),
    lazyMetric('gauge', 'gatecar_apiserver_up', 'Whether the API server answered the last TokenReview: 1 or 0.', () =>
      sources.gauges === undefined ? [] : [[{}, sources.gauges.apiServerUp() ? 1 : 0]],
    ),
    lazyMetric('gauge', 'gatecar_clock_skew_seconds', "How far gatecar's clock is ahead of the API server's.", () => {
      const skewMs = sources.gauges?.clockSkewMs();
      return skewMs === undefined ? [] : [[{}, skewMs / 1000]];
    }),
  ];
}

/** Metrics of connections and TLS. */
export function listenerMetrics(counters: Counters, sources: GaugeSources): ScrapedMetric[] {
  return [
    lazyMetric(
      'counter',
      'gatecar_connections_rejected_total',
      'Connections closed because a limit was reached, by protocol.',
      () => pairs(counters.connectionsRejected, protocol => ({ protocol })),
    ),
    lazyMetric(
      'counter',
      'gatecar_tls_handshake_failures_total',
      'TLS handshakes that failed, by protocol and reason.',
      () => pairs(counters.handshakeFailures, key => twoLabels(key, 'protocol', 'reason')),
    ),
    lazyMetric('counter', 'gatecar_tls_reloads_total', 'Reloads of the TLS files, by outcome.', () =>
      pairs(counters.tlsReloads, outcome => ({ outcome })),
    ),
    lazyMetric(
      'gauge',
      'gatecar_tls_certificate_expiration_timestamp_seconds',
      "When the listeners' certificate expires, in Unix time.",
      () => (sources.notAfterSeconds === undefined ? [] : [[{}, sources.notAfterSeconds()]]),
    ),
  ];
}

/** Metrics of memory, output and build. */
export function processMetrics(version: string, sources: GaugeSources): ScrapedMetric[] {
  const budgets = (read: (budget: MemoryBudget) => number): Pair[] =>
    Object.entries(sources.budgets ?? {}).map(([budget, state]) => [{ budget }, read(state)] as const);
  return [
    lazyMetric(
      'gauge',
      'gatecar_memory_budget_bytes',
      'Limits on the memory of connections and requests, by budget.',
      () => budgets(({ limitBytes }) => limitBytes),
    ),
    lazyMetric(
      'gauge',
      'gatecar_memory_budget_used_bytes',
      'Memory reserved for connections and requests, by budget.',
      () => budgets(({ usedBytes }) => usedBytes),
    ),
    lazyMetric('counter', 'gatecar_log_lines_dropped_total', 'Log and audit lines that could not be written.', () => [
      [{}, sources.output?.droppedLines() ?? 0],
    ]),
    lazyMetric('counter', 'gatecar_log_write_failures_total', 'Failed writes of log and audit lines.', () => [
      [{}, sources.output?.failedWrites() ?? 0],
    ]),
    lazyMetric('gauge', 'gatecar_build_info', 'Version of gatecar and Node.js.', () => [
      [{ version, node: process.version }, 1],
    ]),
  ];
}

type Pair = readonly [labels: Readonly<Record<string, string>>, value: number];

function pairs<K extends string>(counter: LabelledCounter<K>, labels: (key: K) => Pair[0]): Pair[] {
  return [...counter.entries()].map(([key, value]) => [labels(key), value]);
}

/** Splits the key of a counter with two labels. */
function twoLabels(key: string, first: string, second: string): Pair[0] {
  const [one = '', two = ''] = key.split(' ');
  return { [first]: one, [second]: two };
}

function eachOf<K extends string>(keys: readonly K[], label: string, read: ((key: K) => number) | undefined): Pair[] {
  return read === undefined ? [] : keys.map(key => [{ [label]: key }, read(key)]);
}
