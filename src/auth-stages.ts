import { createCacheKeyFn } from './authentication/cache/cache-key.ts';
import type { CachedResult } from './authentication/cache/cached-result.ts';
import { type ResultCache, type ResultCacheOptions, withResultCache } from './authentication/cache/result-cache.ts';
import { createResultStore } from './authentication/cache/result-store.ts';
import type { WaitingMemory } from './authentication/cache/waiting-memory.ts';
import { withClientFailureLimit } from './authentication/client-failure-limit.ts';
import { failureCounter } from './authentication/failure-counter.ts';
import { withJwtPrecheck } from './authentication/jwt-precheck.ts';
import { type ReviewQueue, withReviewQueue } from './authentication/queue/review-queue.ts';
import { withRejectionThrottle } from './authentication/rejection-throttle.ts';
import type { ServerClock } from './authentication/server-clock.ts';
import type { Rejected, TokenAuthenticator } from './authentication/token-authenticator.ts';
import type { ValidTraffic } from './authentication/valid-traffic.ts';
import type { Config } from './config/schema.ts';
import { Token } from './credential/token.ts';
import { type ClusterJwks, createClusterJwks } from './jwks/cluster-jwks.ts';
import type { KubeApiClient } from './kube/api-client.ts';
import {
  JWKS_MAX_WAIT_MS,
  MAX_COUNTED_ADDRESSES,
  MAX_WAITING_REJECTIONS,
  REJECTION_EVERY_MS,
  UNVERIFIED_SHARE,
} from './limits/constants.ts';
import { logJwksTransitions } from './observability/jwks-log.ts';
import type { Logger } from './observability/logging/logger.ts';
import type { Metrics } from './observability/metrics.ts';
import { type Health, health } from './server/health.ts';

/** What the stages are built from. */
export interface StageOptions {
  readonly config: Config;
  readonly counters: Metrics;
  /** For requests that wait for a review, of all listeners. */
  readonly requests: WaitingMemory;
}

/** Adds the rejection throttle. */
export function withThrottle(
  inner: TokenAuthenticator,
  { reviewTimeoutMs }: Config,
  validTraffic: ValidTraffic,
): TokenAuthenticator {
  return withRejectionThrottle(inner, {
    isActive: validTraffic.isActive,
    isExempt: validTraffic.isVerified,
    intervalMs: REJECTION_EVERY_MS,
    // The last one of a full queue waits for at most a quarter of the review timeout.
    maxWaiting: Math.min(MAX_WAITING_REJECTIONS, Math.floor(reviewTimeoutMs / 4 / REJECTION_EVERY_MS)),
  });
}

/** Creates the queue in front of the TokenReview. */
export function createQueue(
  inner: TokenAuthenticator,
  { config, counters }: StageOptions,
  jwks: ClusterJwks | undefined,
  validTraffic: ValidTraffic,
): ReviewQueue {
  return withReviewQueue(inner, {
    maxConcurrency: config.reviewMaxConcurrency,
    maxQueue: config.reviewMaxQueue,
    maxWaitMs: config.reviewTimeoutMs / 2,
    unverifiedShare: () => (jwks?.hasKeys ? UNVERIFIED_SHARE : 1),
    validTokensInUse: validTraffic.isActive,
    onAdmitted: counters.recordQueueTime,
    onRejected: counters.recordReviewRejected,
  });
}

/** Adds the JWT pre-check, unless local checks are off. */
export function withPrecheck(
  inner: TokenAuthenticator,
  { config, counters }: StageOptions,
  jwks: ClusterJwks | undefined,
  validTraffic: ValidTraffic,
  clock: ServerClock,
): TokenAuthenticator {
  if (jwks === undefined) return inner;
  return withJwtPrecheck(inner, {
    keys: jwks,
    clock,
    audiences: config.tokenAudiences,
    signatures: config.jwtPrecheck === 'signature',
    onViolation: counters.recordLocalRejection,
    onVerified: validTraffic.noteVerified,
  });
}

type CacheCallbacks = Required<Pick<ResultCacheOptions, 'wallClock' | 'apiServerDown' | 'onLookup'>>;

/** Adds the result cache. Returns it with its stores. */
export function createCache(
  inner: TokenAuthenticator,
  { config, counters, requests }: StageOptions,
  callbacks: CacheCallbacks,
) {
  const maxEntries = config.cacheMaxEntries;
  const authenticatedStore = createResultStore<CachedResult>({
    maxEntries,
    onEviction: cause => counters.recordEviction('authenticated', cause),
  });
  const rejectedStore = createResultStore<Rejected>({
    maxEntries,
    onEviction: cause => counters.recordEviction('rejected', cause),
  });
  const cache = withResultCache(inner, {
    key: createCacheKeyFn(config.tokenAudiences),
    authenticatedStore,
    rejectedStore,
    ttlMs: config.cacheTtlMs,
    negativeTtlMs: config.cacheNegativeTtlMs,
    cacheStaleIfErrorMs: config.cacheStaleIfErrorMs,
    cacheRefreshAhead: config.cacheRefreshAhead,
    reviewTimeoutMs: config.reviewTimeoutMs,
    waiting: requests,
    onWaitingMemoryFull: () => counters.recordReviewRejected('unknown', 'waiting_memory_full'),
    onRefresh: counters.recordRefresh,
    ...callbacks,
  });
  return { cache, stores: { authenticated: authenticatedStore, rejected: rejectedStore } };
}

/**
 * Creates the readiness state with its probe. The probe's token is invalid on purpose: any answer
 * shows that the API server is up. The probe has the highest priority, since its success ends the
 * effects of an outage.
 */
export function createHealth(
  log: Logger,
  queue: ReviewQueue,
  reviewTimeoutMs: number,
  onApiServerUp: () => void,
): Health {
  const probeToken = new Token('gatecar-readiness-probe');
  return health({
    log,
    probe: async () =>
      queue.authenticate(probeToken, { priority: 'verified', signal: AbortSignal.timeout(reviewTimeoutMs) }),
    onApiServerUp,
  });
}

/** Adds the client failure limit, if one is set. */
export function withFailureLimit(inner: ResultCache, { clientFailureLimit }: Config): TokenAuthenticator {
  if (clientFailureLimit === undefined) return inner;
  const { count: failures, windowMs } = clientFailureLimit;
  return withClientFailureLimit(inner, failureCounter({ failures, windowMs, maxAddresses: MAX_COUNTED_ADDRESSES }));
}

/** Returns the keys that the cluster publishes; `undefined` if local checks are off. */
export function createJwks(
  { jwtPrecheck, reviewTimeoutMs }: Config,
  apiClient: KubeApiClient,
  counters: Metrics,
  log: Logger,
): ClusterJwks | undefined {
  if (jwtPrecheck === 'off') return undefined;
  const logTransition = logJwksTransitions(log);
  return createClusterJwks({
    get: path => apiClient.get(path, AbortSignal.timeout(reviewTimeoutMs)),
    withKeys: jwtPrecheck === 'signature',
    maxWaitMs: Math.min(JWKS_MAX_WAIT_MS, reviewTimeoutMs / 4),
    onFetch(problem) {
      counters.recordJwksFetch(problem === undefined);
      logTransition(problem);
    },
  });
}
