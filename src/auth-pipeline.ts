import { createCacheKeyFn } from './authentication/cache/cache-key.ts';
import type { CachedResult } from './authentication/cache/cached-result.ts';
import { type ResultCache, type ResultCacheOptions, withResultCache } from './authentication/cache/result-cache.ts';
import { createResultStore } from './authentication/cache/result-store.ts';
import type { WaitingMemory } from './authentication/cache/waiting-memory.ts';
import { withClientFailureLimit } from './authentication/client-failure-limit.ts';
import { failureCounter } from './authentication/failure-counter.ts';
import { withJwtPrecheck } from './authentication/jwt-precheck.ts';
import { withLoadShedding } from './authentication/load-shedding.ts';
import { type ReviewQueue, withReviewQueue } from './authentication/queue/review-queue.ts';
import { createRejectionThrottle, type RejectionThrottle } from './authentication/rejection-throttle.ts';
import { comparingClocks, type ServerClock, serverClock } from './authentication/server-clock.ts';
import type { Rejected, TokenAuthenticator } from './authentication/token-authenticator.ts';
import { tokenReview } from './authentication/token-review.ts';
import { withTokenScreening } from './authentication/token-screening.ts';
import { type Authorize, authorizeFormatOnly, createAuthorizer } from './authorize.ts';
import type { Config } from './config/schema.ts';
import { Token } from './credential/token.ts';
import { type ClusterJwks, createClusterJwks } from './jwks/cluster-jwks.ts';
import type { KubeApiClient } from './kube/api-client.ts';
import { createApiClient, type RuntimeEnvironment } from './kube/endpoint-selection.ts';
import {
  JWKS_MAX_WAIT_MS,
  MAX_COUNTED_ADDRESSES,
  MAX_WAITING_REJECTIONS,
  REJECTION_EVERY_MS,
  UNVERIFIED_SHARE,
} from './limits/constants.ts';
import { logClockSkew } from './observability/clock-log.ts';
import { logJwksTransitions } from './observability/jwks-log.ts';
import type { Logger } from './observability/logging/logger.ts';
import type { Metrics } from './observability/metrics.ts';
import { logStaleServing } from './observability/stale-serving-log.ts';
import { createPolicy } from './policy/policy.ts';
import { eventLoopLag } from './server/event-loop-lag.ts';
import { type Health, health } from './server/health.ts';

/** Decides on requests. */
export interface AuthPipeline {
  readonly authorize: Authorize;
  readonly health: Health;
  close(): Promise<void>;
}

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
 * Creates the pipeline. A token passes these stages in order. The first one that can answer does:
 *
 * 1. token screening: too long, or not a JWT where opaque tokens are rejected
 * 2. client failure limit: too many rejections of the same address
 * 3. result cache: a cached result, or a review that is in progress
 * 4. load shedding: the event loop is late
 * 5. JWT pre-check: expired, for other audiences, or not signed by the cluster
 * 6. review queue: a slot, by priority
 * 7. TokenReview: the API server answers
 *
 * They are built from the last to the first.
 */
export function createAuthPipeline(options: AuthPipelineOptions): AuthPipeline {
  const { config, counters, log } = options;
  const clock = serverClock({ onChange: logClockSkew(log) });
  const apiClient = comparingClocks(createApiClient(config, options.surroundings, options.version), clock);
  const jwks = createJwks(config, apiClient, counters, log);
  const throttle = createThrottle(config);
  const staleServing = logStaleServing(log);
  const lag = eventLoopLag();

  const review = tokenReview({
    connection: apiClient,
    audiences: config.tokenAudiences,
    onReview(event) {
      counters.reviewed(event.outcome, event.durationMs);
      // If other tokens can be verified, a slow token webhook does not mean that it is down.
      healthCheck.recordReview(event, event.priority === 'unverified' && jwks?.held === true);
    },
  });
  const queue = createQueue(review, options, jwks, throttle);
  const precheck = withPrecheck(queue, options, jwks, throttle, clock);
  const shedding = withLoadShedding(precheck, {
    lagMs: lag.current,
    onShed: () => counters.recordReviewRejected('unknown', 'event_loop_lag'),
  });
  const { cache, stores } = createCache(shedding, options, {
    wallClock: clock.time,
    authorityDown: () => healthCheck.apiServerDown,
    onLookup(result) {
      counters.recordLookup(result);
      if (result === 'hit_positive') throttle.noteValidTraffic();
      if (result === 'stale') staleServing.served();
    },
  });
  const authenticator = withTokenScreening(withFailureLimit(config, cache), {
    opaqueTokens: config.opaqueTokens,
    onRefusal: counters.recordLocalRejection,
  });

  const healthCheck = createHealth(log, queue, config.reviewTimeoutMs, () => {
    staleServing.ended();
    jwks?.refresh();
  });
  counters.setGauges({
    entries: store => stores[store].size,
    inFlight: queue.inFlight,
    queued: queue.queued,
    reviewLimit: () => queue.limit,
    apiServerUp: () => healthCheck.apiServerUp,
    servingStale: () => staleServing.active,
    clockSkewMs: () => clock.skewMs,
  });
  return {
    authorize: createAuthorizer(authenticator, createPolicy(config)),
    health: healthCheck,
    async close() {
      healthCheck.stop();
      lag.stop();
      await apiClient.close();
    },
  };
}

function createThrottle({ reviewTimeoutMs }: Config): RejectionThrottle {
  return createRejectionThrottle({
    atOnce: 1,
    everyMs: REJECTION_EVERY_MS,
    maxWaiting: Math.min(MAX_WAITING_REJECTIONS, reviewTimeoutMs / 4 / REJECTION_EVERY_MS),
  });
}

function createQueue(
  inner: TokenAuthenticator,
  { config, counters }: AuthPipelineOptions,
  jwks: ClusterJwks | undefined,
  throttle: RejectionThrottle,
): ReviewQueue {
  return withReviewQueue(inner, {
    maxConcurrency: config.reviewMaxConcurrency,
    maxQueue: config.reviewMaxQueue,
    maxWaitMs: config.reviewTimeoutMs / 2,
    unverifiedShare: () => (jwks?.held ? UNVERIFIED_SHARE : 1),
    protecting: () => throttle.protecting,
    onAdmitted: counters.recordQueueTime,
    onRefused: counters.recordReviewRejected,
  });
}

/** Adds the JWT pre-check, unless local checks are off. */
function withPrecheck(
  inner: TokenAuthenticator,
  { config, counters }: AuthPipelineOptions,
  jwks: ClusterJwks | undefined,
  throttle: RejectionThrottle,
  clock: ServerClock,
): TokenAuthenticator {
  if (jwks === undefined) return inner;
  return withJwtPrecheck(inner, {
    keys: jwks,
    clock,
    audiences: config.tokenAudiences,
    signatures: config.jwtPrecheck === 'signature',
    onRefusal: counters.recordLocalRejection,
    pace: throttle,
  });
}

type CacheCallbacks = Required<Pick<ResultCacheOptions, 'wallClock' | 'authorityDown' | 'onLookup'>>;

function createCache(
  inner: TokenAuthenticator,
  { config, counters, requests }: AuthPipelineOptions,
  callbacks: CacheCallbacks,
) {
  const maxEntries = config.cacheMaxEntries;
  const accepted = createResultStore<CachedResult>({
    maxEntries,
    onEviction: cause => counters.recordEviction('authenticated', cause),
  });
  const refused = createResultStore<Rejected>({
    maxEntries,
    onEviction: cause => counters.recordEviction('rejected', cause),
  });
  const cache = withResultCache(inner, {
    key: createCacheKeyFn(config.tokenAudiences),
    accepted,
    refused,
    ttlMs: config.cacheTtlMs,
    negativeTtlMs: config.cacheNegativeTtlMs,
    cacheStaleIfErrorMs: config.cacheStaleIfErrorMs,
    cacheRefreshAhead: config.cacheRefreshAhead,
    reviewTimeoutMs: config.reviewTimeoutMs,
    waiting: requests,
    onWaitingMemoryFull: () => counters.recordReviewRejected('unknown', 'waiting_memory_full'),
    onRenewal: counters.recordRefresh,
    ...callbacks,
  });
  return { cache, stores: { authenticated: accepted, rejected: refused } };
}

/**
 * Creates the readiness state with its probe. The result of the probe does not matter, only that
 * there is one. It has the highest priority, since its success ends the effects of an outage.
 */
function createHealth(log: Logger, queue: ReviewQueue, reviewTimeoutMs: number, onAuthorityUp: () => void): Health {
  const probeToken = new Token('gatecar-readiness-probe');
  return health({
    log,
    probe: async () =>
      queue.authenticate(probeToken, { priority: 'verified', signal: AbortSignal.timeout(reviewTimeoutMs) }),
    onAuthorityUp,
  });
}

function withFailureLimit({ clientFailureLimit }: Config, inner: ResultCache): TokenAuthenticator {
  if (clientFailureLimit === undefined) return inner;
  const { count: failures, windowMs } = clientFailureLimit;
  return withClientFailureLimit(inner, failureCounter({ failures, windowMs, maxAddresses: MAX_COUNTED_ADDRESSES }));
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
    maxWaitMs: Math.min(JWKS_MAX_WAIT_MS, reviewTimeoutMs / 4),
    onFetch(problem) {
      counters.recordJwksFetch(problem === undefined);
      tell(problem);
    },
  });
}
