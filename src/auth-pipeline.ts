import { createCacheKeyFn } from './authentication/cache/cache-key.ts';
import type { CachedResult } from './authentication/cache/cached-result.ts';
import { type ResultCache, type WaitingMemory, withResultCache } from './authentication/cache/result-cache.ts';
import { createResultStore } from './authentication/cache/result-store.ts';
import { withClientFailureLimit } from './authentication/client-failure-limit.ts';
import { failureCounter } from './authentication/failure-counter.ts';
import { withJwtPrecheck } from './authentication/jwt-precheck.ts';
import { withLoadShedding } from './authentication/load-shedding.ts';
import { withReviewQueue } from './authentication/queue/review-queue.ts';
import { withRejectionThrottle } from './authentication/rejection-throttle.ts';
import { comparingClocks, serverClock } from './authentication/server-clock.ts';
import type { Rejected, TokenAuthenticator } from './authentication/token-authenticator.ts';
import { tokenReview } from './authentication/token-review.ts';
import { withTokenScreening } from './authentication/token-screening.ts';
import { createValidTraffic } from './authentication/valid-traffic.ts';
import { type Authorize, authorizeFormatOnly, createAuthorizer } from './authorize.ts';
import type { Config } from './config/schema.ts';
import { Token } from './credential/token.ts';
import { type ClusterJwks, createClusterJwks } from './jwks/cluster-jwks.ts';
import { createKubeApiClient, type KubeApiClient } from './kube/api-client.ts';
import { createEndpointSource, type RuntimeEnvironment } from './kube/endpoint-selection.ts';
import { logClockSkew } from './observability/clock-log.ts';
import { logJwksTransitions } from './observability/jwks-log.ts';
import type { Logger } from './observability/logging/logger.ts';
import type { Metrics } from './observability/metrics.ts';
import { logStaleServing } from './observability/stale-serving-log.ts';
import type { Policy } from './policy/policy.ts';
import { eventLoopLag } from './server/event-loop-lag.ts';
import { type Health, health } from './server/health.ts';

/** Decides on requests. */
export interface AuthPipeline {
  readonly authorize: Authorize;
  readonly health: Health;
  close(): Promise<void>;
}

/** The share of slots and queue for tokens with an unverified signature, if others can be verified. */
const UNVERIFIED_SHARE = 1 / 4;

/** If the event loop is later than this, uncached tokens are rejected as `overloaded`, in milliseconds. */
const MAX_LAG_MS = 250;

/** While valid tokens are in use, one rejection is returned in this time, in milliseconds. */
const REJECTION_INTERVAL_MS = 4;

/** Rejections beyond this number are returned immediately. */
const MAX_WAITING_REJECTIONS = 1000;

/** How long a token waits for jwks that confirm its rejection, in milliseconds. */
const MAX_KEYS_WAIT_MS = 250;

/** Client addresses whose failures are counted at the same time. They take about 10 MiB. */
const MAX_ADDRESSES = 50_000;

/** Creates the pipeline of format-only mode, which checks only the format of a credential. */
export function createFormatOnlyPipeline(log: Logger): AuthPipeline {
  return { authorize: authorizeFormatOnly, health: health({ log, probe: undefined }), close: async () => {} };
}

export interface AuthPipelineOptions {
  readonly config: Config;
  readonly surroundings: RuntimeEnvironment;
  readonly counters: Metrics;
  readonly log: Logger;
  /** For requests that wait for a review, of all listeners. */
  readonly requests: WaitingMemory;
  readonly version: string;
}

/**
 * Creates the pipeline. A token passes these stages in order, and the first one that can answer does:
 *
 * 1. token screening: too long, or not a JWT where opaque tokens are rejected
 * 2. client failure limit: too many rejections of the same address
 * 3. result cache: a cached result, or a review that is in progress
 * 4. load shedding: the event loop is late
 * 5. rejection throttle: delays the rejections of the stages after it while valid tokens are in use
 * 6. JWT pre-check: expired, for other audiences, or not signed by the cluster
 * 7. review queue: a slot, by priority
 * 8. TokenReview: the API server answers
 *
 * They are built from the last to the first.
 */
export function createAuthPipeline({
  config,
  surroundings,
  counters,
  log,
  requests,
  version,
}: AuthPipelineOptions): AuthPipeline {
  const { tokenAudiences: audiences, reviewTimeoutMs } = config;
  const clock = serverClock({ onChange: logClockSkew(log) });
  const apiClient = comparingClocks(createApiClient(config, surroundings, version), clock);
  const review: TokenAuthenticator = tokenReview({
    connection: apiClient,
    audiences,
    onReview(event) {
      counters.reviewed(event.outcome, event.durationMs);
      // If other tokens can be verified, a slow token webhook must not make the API server look down.
      healthCheck.recordReview(event, event.priority === 'unverified' && jwks?.held === true);
    },
  });
  const jwks = createJwks(config, apiClient, counters, log);
  const validTraffic = createValidTraffic();
  const queue = withReviewQueue(review, {
    maxConcurrency: config.reviewMaxConcurrency,
    maxQueue: config.reviewMaxQueue,
    maxWaitMs: reviewTimeoutMs / 2,
    unverifiedShare: () => (jwks?.held ? UNVERIFIED_SHARE : 1),
    protecting: validTraffic.isActive,
    onAdmitted: counters.recordQueueTime,
    onRefused: counters.recordReviewRejected,
  });
  const precheck =
    jwks === undefined
      ? queue
      : withJwtPrecheck(queue, {
          keys: jwks,
          clock,
          audiences,
          signatures: config.jwtPrecheck === 'signature',
          onRefusal: counters.recordLocalRejection,
          onVerified: validTraffic.note,
        });
  const throttled = withRejectionThrottle(precheck, {
    isActive: validTraffic.isActive,
    intervalMs: REJECTION_INTERVAL_MS,
    // The last one of a full queue waits for a quarter of the review timeout.
    maxWaiting: Math.min(MAX_WAITING_REJECTIONS, Math.floor(reviewTimeoutMs / 4 / REJECTION_INTERVAL_MS)),
  });
  const lag = eventLoopLag();
  const shedding = withLoadShedding(throttled, {
    lagMs: lag.current,
    maxLagMs: MAX_LAG_MS,
    onShed: () => counters.recordReviewRejected('unknown', 'event_loop_lag'),
  });
  const maxEntries = config.cacheMaxEntries;
  const accepted = createResultStore<CachedResult>({
    maxEntries,
    onEviction: cause => counters.recordEviction('authenticated', cause),
  });
  const refused = createResultStore<Rejected>({
    maxEntries,
    onEviction: cause => counters.recordEviction('rejected', cause),
  });
  const staleServing = logStaleServing(log);
  const cache = withResultCache(shedding, {
    key: createCacheKeyFn(audiences),
    accepted,
    refused,
    ttlMs: config.cacheTtlMs,
    negativeTtlMs: config.cacheNegativeTtlMs,
    cacheStaleIfErrorMs: config.cacheStaleIfErrorMs,
    cacheRefreshAhead: config.cacheRefreshAhead,
    reviewTimeoutMs,
    waiting: requests,
    onWaitingMemoryFull: () => counters.recordReviewRejected('unknown', 'waiting_memory_full'),
    wallClock: clock.time,
    authorityDown: () => healthCheck.apiServerDown,
    onLookup(result) {
      counters.recordLookup(result);
      if (result === 'hit_positive') validTraffic.note();
      if (result === 'stale') staleServing.served();
    },
    onRenewal: counters.recordRefresh,
  });
  const authenticator = withTokenScreening(withFailureLimit(config, cache), {
    opaqueTokens: config.opaqueTokens,
    onRefusal: counters.recordLocalRejection,
  });

  // The result of the probe does not matter, only that there is one. It has the highest priority, since its success ends
  // the effects of an outage.
  const probeToken = new Token('gatecar-readiness-probe');
  const healthCheck = health({
    log,
    probe: async () =>
      queue.authenticate(probeToken, { priority: 'verified', signal: AbortSignal.timeout(reviewTimeoutMs) }),
    onAuthorityUp() {
      staleServing.ended();
      jwks?.refresh();
    },
  });
  counters.setGauges({
    entries: store => (store === 'authenticated' ? accepted : refused).size,
    inFlight: queue.inFlight,
    queued: queue.queued,
    reviewLimit: () => queue.limit,
    apiServerUp: () => healthCheck.apiServerUp,
    servingStale: () => staleServing.active,
    clockSkewMs: () => clock.skewMs,
  });
  return {
    authorize: createAuthorizer(authenticator, policyFromConfig(config)),
    health: healthCheck,
    async close() {
      healthCheck.stop();
      lag.stop();
      await apiClient.close();
    },
  };
}

/** The apiClient to the API server that the settings name. */
export function createApiClient(config: Config, surroundings: RuntimeEnvironment, version: string): KubeApiClient {
  return createKubeApiClient({
    source: () => createEndpointSource(config, surroundings),
    maxConnections: config.reviewMaxConcurrency,
    userAgent: `gatecar/${version}`,
  });
}

/** Returns the allowlists of the settings. */
export function policyFromConfig({ allowedNamespaces, allowedServiceAccounts }: Config): Policy {
  return {
    allowedNamespaces: allowedNamespaces && new Set(allowedNamespaces),
    allowedServiceAccounts: allowedServiceAccounts && new Set(allowedServiceAccounts),
  };
}

function withFailureLimit({ clientFailureLimit }: Config, inner: ResultCache): TokenAuthenticator {
  if (clientFailureLimit === undefined) return inner;
  const { count: failures, windowMs } = clientFailureLimit;
  return withClientFailureLimit(inner, failureCounter({ failures, windowMs, maxAddresses: MAX_ADDRESSES }));
}

/** Returns the keys that the cluster publishes; `undefined` if local checks are off. */
function createJwks(
  { jwtPrecheck, reviewTimeoutMs }: Config,
  apiClient: KubeApiClient,
  counters: Metrics,
  log: Logger,
): ClusterJwks | undefined {
  if (jwtPrecheck === 'off') return undefined;
  const tell = logJwksTransitions(log);
  return createClusterJwks({
    get: path => apiClient.get(path, AbortSignal.timeout(reviewTimeoutMs)),
    withKeys: jwtPrecheck === 'signature',
    maxWaitMs: Math.min(MAX_KEYS_WAIT_MS, reviewTimeoutMs / 4),
    onFetch(problem) {
      counters.recordJwksFetch(problem === undefined);
      tell(problem);
    },
  });
}
