import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { LookupResult } from '../authentication/cache/result-cache.ts';
import type { EvictionCause } from '../authentication/cache/result-store.ts';
import type { ClaimCheck } from '../authentication/jwt-precheck.ts';
import type { QueueRejection } from '../authentication/queue/review-queue.ts';
import type { AuthResult, Priority } from '../authentication/token-authenticator.ts';
import type { ReviewOutcome } from '../authentication/token-review.ts';
import type { ScreeningCheck } from '../authentication/token-screening.ts';
import { type Decision, REVIEW_FAILURE_CAUSES, type Reason } from '../decision/decision.ts';
import type { Protocol } from '../gateway/decision-event.ts';
import type { HandshakeFailure } from '../tls/handshake-failure.ts';
import { HANDSHAKE_FAILURES } from './handshake-log.ts';
import { LabelledCounter, lazyMetric, PlainHistogram, type ScrapedMetric, scrapedHistograms } from './metric-types.ts';

type Kind = Decision['kind'];
type Store = 'authenticated' | 'rejected';

/** From a cached response (tens of microseconds) to a review that times out, in seconds. */
const DURATION_BOUNDS = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
];

/** Functions that read the gauges on each scrape. */
export interface Gauges {
  readonly entries: (store: Store) => number;
  readonly inFlight: (priority: Priority) => number;
  readonly queued: (priority: Priority) => number;
  readonly reviewLimit: () => number;
  readonly authorityUp: () => boolean;
  readonly graceActive: () => boolean;
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

export type TlsReload = 'success' | 'failure';

/** The functions with which the other modules record events. */
export interface Metrics {
  readonly decided: (protocol: Protocol, decision: Decision, durationMs: number) => void;
  readonly recordLookup: (result: LookupResult) => void;
  readonly recordEviction: (store: Store, cause: EvictionCause) => void;
  readonly reviewed: (outcome: ReviewOutcome, durationMs: number) => void;
  readonly recordQueueTime: (seconds: number) => void;
  readonly dropped: (listener: Protocol | 'ops') => void;
  readonly handshakeFailed: (listener: Protocol, reason: HandshakeFailure) => void;
  readonly tlsReloaded: (outcome: TlsReload) => void;
  /**
   * Sets how the expiry of the listeners' certificate is read. Not called without a certificate.
   */
  readonly observeCertificate: (notAfterSeconds: () => number) => void;
  /** Sets how the state of the log's output is read. */
  readonly observeOutput: (output: LogOutput) => void;
  /** Sets how the budgets of the auth and gRPC listeners are read. */
  readonly observeBudgets: (budgets: MemoryBudgets) => void;
  readonly refusedLocally: (check: ScreeningCheck | ClaimCheck) => void;
  /** The priority is `unknown` if the request was rejected before the checks that choose one. */
  readonly recordQueueRejection: (priority: Priority | 'unknown', why: QueueRejection | 'waiting_memory_full') => void;
  readonly recordShed: () => void;
  readonly recordRefresh: (outcome: AuthResult['kind']) => void;
  /** Records a fetch of the JWKS. */
  readonly recordJwksFetch: (ok: boolean) => void;
  /** Sets how the gauges are read, once the modules behind them exist. */
  readonly setGauges: (gauges: Gauges) => void;
  /** The Prometheus text format, version 0.0.4. */
  readonly scrape: () => Promise<string>;
  readonly contentType: string;
}

/**
 * Label values that start at 0: `rate()` needs a first sample, and an alert must see the first
 * increment.
 */
const REFUSALS: Readonly<Record<Reason, Exclude<Kind, 'allow'>>> = {
  credentials_missing: 'deny',
  credentials_malformed: 'deny',
  token_empty: 'deny',
  token_rejected: 'deny',
  audience_mismatch: 'deny',
  user_missing: 'deny',
  too_many_failures: 'deny',
  namespace_denied: 'deny',
  service_account_denied: 'deny',
  authority_unavailable: 'unavailable',
  overloaded: 'unavailable',
};
const DECISIONS = ['allow ', ...Object.entries(REFUSALS).map(([reason, kind]) => `${kind} ${reason}`)];

/** Outcomes of reviews that passed the queue; each counter starts at 0. */
const OUTCOMES: readonly ReviewOutcome[] = ['authenticated', 'rejected', ...REVIEW_FAILURE_CAUSES];

const STORES: readonly Store[] = ['authenticated', 'rejected'];
const PRIORITIES: readonly Priority[] = ['verified', 'unverified', 'refresh'];

/** Creates gatecar's documented metrics, and those of the Node.js process. */
export function metrics(version: string): Metrics {
  const requests: Record<Protocol, LabelledCounter<string>> = {
    http: new LabelledCounter(DECISIONS),
    grpc: new LabelledCounter(DECISIONS),
  };
  const durations: Record<Kind, PlainHistogram> = {
    allow: new PlainHistogram(DURATION_BOUNDS),
    deny: new PlainHistogram(DURATION_BOUNDS),
    unavailable: new PlainHistogram(DURATION_BOUNDS),
  };
  const lookups = new LabelledCounter<LookupResult>(['hit_positive', 'hit_negative', 'miss', 'coalesced', 'stale']);
  const evictions = new LabelledCounter<`${Store} ${EvictionCause}`>([
    'authenticated capacity',
    'authenticated expired',
    'rejected capacity',
    'rejected expired',
  ]);
  const reviews = new LabelledCounter<ReviewOutcome>(OUTCOMES);
  const reviewDuration = new PlainHistogram(DURATION_BOUNDS);
  const queueSeconds = new PlainHistogram(DURATION_BOUNDS);
  const drops = new LabelledCounter<Protocol | 'ops'>(['http', 'grpc', 'ops']);
  const handshakes = new LabelledCounter<`${Protocol} ${HandshakeFailure}`>(
    HANDSHAKE_FAILURES.flatMap(reason => [`http ${reason}`, `grpc ${reason}`] as const),
  );
  const reloads = new LabelledCounter<TlsReload>(['success', 'failure']);
  const refusals = new LabelledCounter<ScreeningCheck | ClaimCheck>([
    'length',
    'opaque',
    'expired',
    'not yet valid',
    'audience',
    'signature',
  ]);
  const notAdmitted = new LabelledCounter<`${Priority | 'unknown'} ${QueueRejection | 'waiting_memory_full'}`>([
    ...PRIORITIES.flatMap(priority => [`${priority} queue full`, `${priority} no turn in time`] as const),
    'unknown waiting_memory_full',
  ]);
  const renewals = new LabelledCounter<AuthResult['kind']>(['authenticated', 'rejected', 'unavailable']);
  const keyFetches = new LabelledCounter<'success' | 'failure'>(['success', 'failure']);
  let keysReadable: boolean | undefined;
  let shed = 0;
  let gauges: Gauges | undefined;
  let notAfterSeconds: (() => number) | undefined;
  let budgets: Partial<MemoryBudgets> = {};
  let output: LogOutput = { droppedLines: () => 0, failedWrites: () => 0 };

  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const register = (metric: ScrapedMetric) => registry.registerMetric(metric as unknown as Metric);
  const counter = (...args: [string, string, Parameters<typeof lazyMetric>[3]]) =>
    register(lazyMetric('counter', ...args));
  const gauge = (...args: [string, string, Parameters<typeof lazyMetric>[3]]) => register(lazyMetric('gauge', ...args));

  counter('gatecar_requests_total', 'Decisions, by protocol, decision and reason.', () =>
    Object.entries(requests).flatMap(([protocol, tally]) =>
      pairs(tally, key => {
        const [decision = '', reason = ''] = key.split(' ');
        return { protocol, decision, reason };
      }),
    ),
  );
  register(
    scrapedHistograms(
      'gatecar_request_duration_seconds',
      'Time from a request to its answer.',
      Object.entries(durations).map(([decision, histogram]) => [{ decision }, histogram] as const),
    ),
  );
  counter('gatecar_cache_lookups_total', 'Look-ups of a result, by what was found.', () =>
    pairs(lookups, result => ({ result })),
  );
  gauge('gatecar_cache_entries', 'Results held.', () => eachOf(STORES, 'store', gauges?.entries));
  counter('gatecar_cache_evictions_total', 'Results dropped, by store and cause.', () =>
    pairs(evictions, key => {
      const [store = '', cause = ''] = key.split(' ');
      return { store, cause };
    }),
  );
  counter('gatecar_reviews_total', 'TokenReviews, by outcome.', () => pairs(reviews, outcome => ({ outcome })));
  register(scrapedHistograms('gatecar_review_duration_seconds', 'Time one TokenReview took.', [[{}, reviewDuration]]));
  gauge('gatecar_reviews_in_flight', 'TokenReviews under way.', () => eachOf(PRIORITIES, 'priority', gauges?.inFlight));
  gauge('gatecar_reviews_queued', 'TokenReviews waiting for their turn.', () =>
    eachOf(PRIORITIES, 'priority', gauges?.queued),
  );
  counter('gatecar_local_refusals_total', 'Tokens refused without a TokenReview, by check.', () =>
    pairs(refusals, check => ({ check })),
  );
  register(
    scrapedHistograms('gatecar_review_queue_seconds', 'Time reviews waited for their turn.', [[{}, queueSeconds]]),
  );
  gauge('gatecar_review_concurrency_limit', 'Most TokenReviews under way at once, now.', () =>
    gauges === undefined ? [] : [[{}, gauges.reviewLimit()]],
  );
  counter('gatecar_reviews_not_admitted_total', 'Reviews refused before they were asked, by priority and cause.', () =>
    pairs(notAdmitted, key => {
      const [priority = '', ...cause] = key.split(' ');
      return { priority, cause: cause.join(' ') };
    }),
  );
  counter('gatecar_reviews_shed_total', 'Reviews refused because the event loop was behind.', () => [[{}, shed]]);
  counter('gatecar_renewals_total', 'Results reviewed again before their end, by outcome.', () =>
    pairs(renewals, outcome => ({ outcome })),
  );
  counter('gatecar_cluster_keys_fetches_total', "Times the cluster's keys were asked for, by outcome.", () =>
    pairs(keyFetches, outcome => ({ outcome })),
  );
  gauge('gatecar_cluster_keys_readable', "Whether the cluster's keys could be read when last asked for.", () =>
    keysReadable === undefined ? [] : [[{}, keysReadable ? 1 : 0]],
  );
  gauge('gatecar_grace_active', 'Whether results are served past their time.', () =>
    gauges === undefined ? [] : [[{}, gauges.graceActive() ? 1 : 0]],
  );
  gauge('gatecar_authority_up', 'Whether the last TokenReview could be asked.', () =>
    gauges === undefined ? [] : [[{}, gauges.authorityUp() ? 1 : 0]],
  );
  gauge('gatecar_clock_skew_seconds', "How far gatecar's clock is ahead of the API server's.", () => {
    const skewMs = gauges?.clockSkewMs();
    return skewMs === undefined ? [] : [[{}, skewMs / 1000]];
  });
  counter('gatecar_connections_dropped_total', 'Connections closed for being one too many, by protocol.', () =>
    pairs(drops, protocol => ({ protocol })),
  );
  gauge('gatecar_memory_budget_bytes', 'Limits on the memory of connections and requests, by budget.', () =>
    Object.entries(budgets).map(([budget, { limitBytes }]) => [{ budget }, limitBytes] as const),
  );
  gauge('gatecar_memory_budget_used_bytes', 'Memory reserved for connections and requests, by budget.', () =>
    Object.entries(budgets).map(([budget, { usedBytes }]) => [{ budget }, usedBytes] as const),
  );
  counter('gatecar_tls_handshake_failures_total', 'TLS handshakes that failed, by protocol and reason.', () =>
    pairs(handshakes, key => {
      const [protocol = '', reason = ''] = key.split(' ');
      return { protocol, reason };
    }),
  );
  counter('gatecar_tls_reloads_total', 'Replaced TLS files, by whether they could be used.', () =>
    pairs(reloads, outcome => ({ outcome })),
  );
  gauge('gatecar_tls_certificate_not_after_seconds', 'When the certificate in force runs out, in Unix time.', () =>
    notAfterSeconds === undefined ? [] : [[{}, notAfterSeconds()]],
  );
  counter('gatecar_log_lines_dropped_total', 'Lines of log and audit that could not be written.', () => [
    [{}, output.droppedLines()],
  ]);
  counter('gatecar_log_write_failures_total', 'Failed attempts to write lines of log and audit.', () => [
    [{}, output.failedWrites()],
  ]);
  gauge('gatecar_build_info', 'Version of gatecar and Node.js.', () => [[{ version, node: process.version }, 1]]);

  return {
    decided(protocol, decision, durationMs) {
      requests[protocol].add(decision.kind === 'allow' ? 'allow ' : `${decision.kind} ${decision.reason}`);
      durations[decision.kind].observe(durationMs / 1000);
    },
    recordLookup: result => lookups.add(result),
    recordEviction: (store, cause) => evictions.add(`${store} ${cause}`),
    reviewed(outcome, durationMs) {
      reviews.add(outcome);
      reviewDuration.observe(durationMs / 1000);
    },
    recordQueueTime: seconds => queueSeconds.observe(seconds),
    refusedLocally: check => refusals.add(check),
    dropped: protocol => drops.add(protocol),
    handshakeFailed: (listener, reason) => handshakes.add(`${listener} ${reason}`),
    tlsReloaded: outcome => reloads.add(outcome),
    observeCertificate: given => {
      notAfterSeconds = given;
    },
    observeOutput: given => {
      output = given;
    },
    observeBudgets: given => {
      budgets = given;
    },
    recordQueueRejection: (priority, why) => notAdmitted.add(`${priority} ${why}`),
    recordShed() {
      shed += 1;
    },
    recordRefresh: outcome => renewals.add(outcome),
    recordJwksFetch(ok) {
      keysReadable = ok;
      keyFetches.add(ok ? 'success' : 'failure');
    },
    setGauges: given => {
      gauges = given;
    },
    scrape: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

type Pair = readonly [labels: Readonly<Record<string, string>>, value: number];

function pairs<K extends string>(tally: LabelledCounter<K>, labels: (key: K) => Pair[0]): Pair[] {
  return [...tally.entries()].map(([key, value]) => [labels(key), value]);
}

function eachOf<K extends string>(keys: readonly K[], label: string, read: ((key: K) => number) | undefined): Pair[] {
  return read === undefined ? [] : keys.map(key => [{ [label]: key }, read(key)]);
}
