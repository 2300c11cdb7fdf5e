import { createCacheKeyFn } from './authentication/cache/cache-key.ts';
import type { CachedResult } from './authentication/cache/cached-result.ts';
import { type ResultCache, type WaitingMemory, withResultCache } from './authentication/cache/result-cache.ts';
import { createResultStore } from './authentication/cache/result-store.ts';
import { withClientFailureLimit } from './authentication/client-failure-limit.ts';
import { failureCounter } from './authentication/failure-counter.ts';
import { withJwtPrecheck } from './authentication/jwt-precheck.ts';
import { withLoadShedding } from './authentication/load-shedding.ts';
import { withReviewQueue } from './authentication/queue/review-queue.ts';
import { createRejectionThrottle } from './authentication/rejection-throttle.ts';
import { comparingClocks, serverClock } from './authentication/server-clock.ts';
import type { Rejected, TokenAuthenticator } from './authentication/token-authenticator.ts';
import { tokenReview } from './authentication/token-review.ts';
import { withTokenScreening } from './authentication/token-screening.ts';
import { type Authorize, authorizeBasicMode, createAuthorizer } from './authorize.ts';
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

/** Whatever decides, and what it needs of the house. */
export interface AuthPipeline {
  readonly authorize: Authorize;
  readonly health: Health;
  close(): Promise<void>;
}

/** The part of places and queue for tokens whose signature is not verified, where others are. */
const UNVERIFIED_SHARE = 1 / 4;

/** Past this the event loop is so far behind that new tokens are turned away, in milliseconds. */
const MAX_LAG_MS = 250;

/** One refusal in so many milliseconds. Each lets the next question in, and a review of it costs the API server a millisecond. */
const REFUSAL_EVERY_MS = 4;

/** More are told at once; as would be those that might be taken for a review that was cut off. */
const MAX_WAITING_REFUSALS = 1000;

/** How long a token waits for keys that confirm its rejection, in milliseconds; the time for its review is left. */
const MAX_KEYS_WAIT_MS = 250;

/** Client addresses whose failures are counted at once: some ten MiB. */
const MAX_ADDRESSES = 50_000;

/** Basic mode: nobody is asked. */
export function createBasicModePipeline(log: Logger): AuthPipeline {
  return { authorize: authorizeBasicMode, health: health({ log, probe: undefined }), close: async () => {} };
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

/** `prescreened(limited(cached(shedding(examined(admitted(tokenReview(connection)))))))`, and who watches over it. */
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
  const connection = comparingClocks(createApiClient(config, surroundings, version), clock);
  const asking: TokenAuthenticator = tokenReview({
    connection,
    audiences,
    onReview(review) {
      counters.reviewed(review.outcome, review.durationMs);
      // Where others can be verified: what a token webhook takes too long for says nothing of the API server.
      watch.recordReview(review, review.priority === 'unverified' && keys?.held === true);
    },
  });
  const keys = createJwks(config, connection, counters, log);
  const pace = createRejectionThrottle({
    atOnce: 1,
    everyMs: REFUSAL_EVERY_MS,
    maxWaiting: Math.min(MAX_WAITING_REFUSALS, reviewTimeoutMs / 4 / REFUSAL_EVERY_MS),
  });
  const admission = withReviewQueue(asking, {
    maxConcurrency: config.reviewMaxConcurrency,
    maxQueue: config.reviewMaxQueue,
    maxWaitMs: reviewTimeoutMs / 2,
    unverifiedShare: () => (keys?.held ? UNVERIFIED_SHARE : 1),
    protecting: () => pace.protecting,
    onAdmitted: counters.recordQueueTime,
    onRefused: counters.recordQueueRejection,
  });
  const examining =
    keys === undefined
      ? admission
      : withJwtPrecheck(admission, {
          keys,
          clock,
          audiences,
          signatures: config.localChecks === 'signature',
          onRefusal: counters.refusedLocally,
          pace,
        });
  const lag = eventLoopLag();
  const shedder = withLoadShedding(examining, {
    lagMs: lag.current,
    maxLagMs: MAX_LAG_MS,
    onShed: counters.recordShed,
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
  const grace = logStaleServing(log);
  const remembering = withResultCache(shedder, {
    key: createCacheKeyFn(audiences),
    accepted,
    refused,
    ttlMs: config.cacheTtlMs,
    negativeTtlMs: config.cacheNegativeTtlMs,
    graceMs: config.graceMs,
    refreshAhead: config.refreshAhead,
    reviewTimeoutMs,
    waiting: requests,
    onWaitingMemoryFull: () => counters.recordQueueRejection('unknown', 'waiting_memory_full'),
    wallClock: clock.time,
    authorityDown: () => watch.apiServerDown,
    onLookup(result) {
      counters.recordLookup(result);
      if (result === 'hit_positive') pace.noteValidTraffic();
      if (result === 'stale') grace.served();
    },
    onRenewal: counters.recordRefresh,
  });
  const authority = withTokenScreening(withFailureLimit(config, remembering), {
    opaqueTokens: config.opaqueTokens,
    onRefusal: counters.refusedLocally,
  });

  // Nobody's token: all that is of interest is whether it can be asked about. It goes first, since its answer ends what an
  // outage or a request for less has brought about.
  const probeToken = new Token('gatecar-readiness-probe');
  const watch = health({
    log,
    probe: async () =>
      admission.authenticate(probeToken, { priority: 'verified', signal: AbortSignal.timeout(reviewTimeoutMs) }),
    onAuthorityUp() {
      grace.ended();
      keys?.refresh();
    },
  });
  counters.setGauges({
    entries: store => (store === 'authenticated' ? accepted : refused).size,
    inFlight: admission.inFlight,
    queued: admission.queued,
    reviewLimit: () => admission.limit,
    authorityUp: () => watch.apiServerUp,
    graceActive: () => grace.active,
    clockSkewMs: () => clock.skewMs,
  });
  return {
    authorize: createAuthorizer(authority, policyFromConfig(config)),
    health: watch,
    async close() {
      watch.stop();
      lag.stop();
      await connection.close();
    },
  };
}

/** The connection to the API server that the settings name. */
export function createApiClient(config: Config, surroundings: RuntimeEnvironment, version: string): KubeApiClient {
  return createKubeApiClient({
    source: () => createEndpointSource(config, surroundings),
    maxConnections: config.reviewMaxConcurrency,
    userAgent: `gatecar/${version}`,
  });
}

/** Who may pass by the settings. */
export function policyFromConfig({ allowedNamespaces, allowedServiceAccounts }: Config): Policy {
  return {
    allowedNamespaces: allowedNamespaces && new Set(allowedNamespaces),
    allowedServiceAccounts: allowedServiceAccounts && new Set(allowedServiceAccounts),
  };
}

function withFailureLimit({ failureLimit }: Config, inner: ResultCache): TokenAuthenticator {
  if (failureLimit === undefined) return inner;
  const { count: failures, windowMs } = failureLimit;
  return withClientFailureLimit(inner, failureCounter({ failures, windowMs, maxAddresses: MAX_ADDRESSES }));
}

/** What the cluster publishes for checking tokens here; `undefined` where that is not wanted. */
function createJwks(
  { localChecks, reviewTimeoutMs }: Config,
  connection: KubeApiClient,
  counters: Metrics,
  log: Logger,
): ClusterJwks | undefined {
  if (localChecks === 'off') return undefined;
  const tell = logJwksTransitions(log);
  return createClusterJwks({
    get: path => connection.get(path, AbortSignal.timeout(reviewTimeoutMs)),
    withKeys: localChecks === 'signature',
    maxWaitMs: Math.min(MAX_KEYS_WAIT_MS, reviewTimeoutMs / 4),
    onFetch(problem) {
      counters.recordJwksFetch(problem === undefined);
      tell(problem);
    },
  });
}
