import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { LookupResult } from '../authentication/cache/result-cache.ts';
import type { EvictionCause } from '../authentication/cache/result-store.ts';
import type { ClaimCheck } from '../authentication/jwt-precheck.ts';
import type { AuthResult, Priority } from '../authentication/token-authenticator.ts';
import type { ReviewOutcome } from '../authentication/token-review.ts';
import type { ScreeningCheck } from '../authentication/token-screening.ts';
import type { Decision } from '../decision/decision.ts';
import type { Protocol } from '../gateway/decision-event.ts';
import type { HandshakeFailure } from '../tls/handshake-failure.ts';
import {
  type Counters,
  createCounters,
  type Listener,
  type ReviewRejection,
  type Store,
  type TlsReload,
} from './counters.ts';
import {
  cacheMetrics,
  decisionMetrics,
  type GaugeSources,
  type Gauges,
  type LogOutput,
  listenerMetrics,
  type MemoryBudgets,
  processMetrics,
  reviewMetrics,
} from './metric-definitions.ts';

/** The functions with which the other modules record events. */
export interface Metrics {
  readonly recordDecision: (protocol: Protocol, decision: Decision, durationMs: number) => void;
  readonly recordLookup: (result: LookupResult) => void;
  readonly recordEviction: (store: Store, cause: EvictionCause) => void;
  readonly recordReview: (outcome: ReviewOutcome, durationMs: number) => void;
  readonly recordQueueTime: (seconds: number) => void;
  readonly recordConnectionRejected: (listener: Listener) => void;
  readonly recordHandshakeFailure: (listener: Protocol, reason: HandshakeFailure) => void;
  readonly recordTlsReload: (outcome: TlsReload) => void;
  /**
   * Sets how the expiry of the listeners' certificate is read. Not called without a certificate.
   */
  readonly observeCertificate: (notAfterSeconds: () => number) => void;
  /** Sets how the state of the log's output is read. */
  readonly observeOutput: (output: LogOutput) => void;
  /** Sets how the budgets of the auth and gRPC listeners are read. */
  readonly observeBudgets: (budgets: MemoryBudgets) => void;
  readonly recordLocalRejection: (reason: ScreeningCheck | ClaimCheck) => void;
  /** The priority is `unknown` if the request was rejected before the checks that choose one. */
  readonly recordReviewRejected: (priority: Priority | 'unknown', reason: ReviewRejection) => void;
  readonly recordRefresh: (outcome: AuthResult['kind']) => void;
  /** Records a fetch of the JWKS. */
  readonly recordJwksFetch: (ok: boolean) => void;
  /** Sets how the gauges are read, once the modules behind them exist. */
  readonly setGauges: (gauges: Gauges) => void;
  /** The Prometheus text format, version 0.0.4. */
  readonly scrape: () => Promise<string>;
  readonly contentType: string;
}

/** Creates gatecar's documented metrics, and those of the Node.js process. */
export function metrics(version: string): Metrics {
  const counters = createCounters();
  const sources: GaugeSources = {};
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const metric of [
    ...decisionMetrics(counters),
    ...cacheMetrics(counters, sources),
    ...reviewMetrics(counters, sources),
    ...listenerMetrics(counters, sources),
    ...processMetrics(version, sources),
  ]) {
    // ScrapedMetric has all that a registry uses of a Metric.
    registry.registerMetric(metric as unknown as Metric);
  }
  return {
    ...recorders(counters),
    observeCertificate(notAfterSeconds) {
      sources.notAfterSeconds = notAfterSeconds;
    },
    observeOutput(output) {
      sources.output = output;
    },
    observeBudgets(budgets) {
      sources.budgets = budgets;
    },
    recordJwksFetch(ok) {
      sources.jwksAvailable = ok;
      counters.jwksFetches.add(ok ? 'success' : 'failure');
    },
    setGauges(gauges) {
      sources.gauges = gauges;
    },
    scrape: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

function recorders(counters: Counters) {
  const { requests, durations, reviews, reviewDuration, queueDuration } = counters;
  return {
    recordDecision(protocol, decision, durationMs) {
      requests[protocol].add(decision.kind === 'allow' ? 'allow ' : `${decision.kind} ${decision.reason}`);
      durations[decision.kind].observe(durationMs / 1000);
    },
    recordLookup: result => counters.lookups.add(result),
    recordEviction: (store, cause) => counters.evictions.add(`${store} ${cause}`),
    recordReview(outcome, durationMs) {
      reviews.add(outcome);
      reviewDuration.observe(durationMs / 1000);
    },
    recordQueueTime: seconds => queueDuration.observe(seconds),
    recordLocalRejection: reason => counters.localRejections.add(reason),
    recordConnectionRejected: listener => counters.connectionsRejected.add(listener),
    recordHandshakeFailure: (listener, reason) => counters.handshakeFailures.add(`${listener} ${reason}`),
    recordTlsReload: outcome => counters.tlsReloads.add(outcome),
    recordReviewRejected: (priority, reason) => counters.reviewsRejected.add(`${priority} ${reason}`),
    recordRefresh: outcome => counters.refreshes.add(outcome),
  } satisfies Partial<Metrics>;
}
