import { admitted } from './authentication/queue/review-queue.ts';
import type { Authority, Refused } from './authentication/token-authenticator.ts';
import { type Cached, cached, type WaitingMemory } from './authentication/cache/result-cache.ts';
import { type ClusterKeys, clusterKeys } from './jwks/cluster-jwks.ts';
import { examined } from './authentication/jwt-precheck.ts';
import type { Known } from './authentication/cache/cached-result.ts';
import { type KubeConnection, kubeConnection } from './kube/api-client.ts';
import { limited } from './authentication/client-failure-limit.ts';
import { prescreened } from './authentication/token-screening.ts';
import { refusalPace } from './authentication/rejection-throttle.ts';
import { comparingClocks, serverClock } from './authentication/server-clock.ts';
import { shedding } from './authentication/load-shedding.ts';
import { tokenReview } from './authentication/token-review.ts';
import { type Authorize, authorizeAnybody, authorizeWith } from './authorize.ts';
import { failureCounter } from './authentication/failure-counter.ts';
import { cacheKeys } from './authentication/cache/cache-key.ts';
import { verdictStore } from './authentication/cache/result-store.ts';
import type { Config } from './config/schema.ts';
import { Token } from './credential/token.ts';
import { endpointSource, type Surroundings } from './kube/endpoint-selection.ts';
import { clockLog } from './observability/clock-log.ts';
import { eventLoopLag } from './server/event-loop-lag.ts';
import { graceWatch } from './observability/stale-serving-log.ts';
import { type Health, health } from './server/health.ts';
import { keysLog } from './observability/jwks-log.ts';
import type { Logger } from './observability/logging/logger.ts';
import type { Metrics } from './observability/metrics.ts';
import type { Policy } from './policy/policy.ts';

/** Whatever decides, and what it needs of the house. */
export interface Gate {
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
export function openGate(log: Logger): Gate {
  return { authorize: authorizeAnybody, health: health({ log, probe: undefined }), close: async () => {} };
}

export interface ReviewGateOptions {
  readonly config: Config;
  readonly surroundings: Surroundings;
  readonly counters: Metrics;
  readonly log: Logger;
  /** For requests that wait for a review, of all listeners. */
  readonly requests: WaitingMemory;
  readonly version: string;
}

/** `prescreened(limited(cached(shedding(examined(admitted(tokenReview(connection)))))))`, and who watches over it. */
export function reviewGate({ config, surroundings, counters, log, requests, version }: ReviewGateOptions): Gate {
  const { tokenAudiences: audiences, reviewTimeoutMs } = config;
  const clock = serverClock({ onChange: clockLog(log) });
  const connection = comparingClocks(openConnection(config, surroundings, version), clock);
  const asking: Authority = tokenReview({
    connection,
    audiences,
    onReview(review) {
      counters.reviewed(review.outcome, review.durationMs);
      // Where others can be verified: what a token webhook takes too long for says nothing of the API server.
      watch.reviewed(review, review.lane === 'unverified' && keys?.held === true);
    },
  });
  const keys = publishedKeys(config, connection, counters, log);
  const pace = refusalPace({
    atOnce: 1,
    everyMs: REFUSAL_EVERY_MS,
    maxWaiting: Math.min(MAX_WAITING_REFUSALS, reviewTimeoutMs / 4 / REFUSAL_EVERY_MS),
  });
  const admission = admitted(asking, {
    maxConcurrency: config.reviewMaxConcurrency,
    maxQueue: config.reviewMaxQueue,
    maxWaitMs: reviewTimeoutMs / 2,
    unverifiedShare: () => (keys?.held ? UNVERIFIED_SHARE : 1),
    protecting: () => pace.protecting,
    onAdmitted: counters.queuedFor,
    onRefused: counters.notAdmitted,
  });
  const examining =
    keys === undefined
      ? admission
      : examined(admission, {
          keys,
          clock,
          audiences,
          signatures: config.localChecks === 'signature',
          onRefusal: counters.refusedLocally,
          pace,
        });
  const lag = eventLoopLag();
  const shedder = shedding(examining, { lagMs: lag.now, maxLagMs: MAX_LAG_MS, onShed: counters.shed });
  const maxEntries = config.cacheMaxEntries;
  const accepted = verdictStore<Known>({ maxEntries, onEviction: cause => counters.evicted('accepted', cause) });
  const refused = verdictStore<Refused>({ maxEntries, onEviction: cause => counters.evicted('refused', cause) });
  const grace = graceWatch(log);
  const remembering = cached(shedder, {
    key: cacheKeys(audiences),
    accepted,
    refused,
    ttlMs: config.cacheTtlMs,
    negativeTtlMs: config.cacheNegativeTtlMs,
    graceMs: config.graceMs,
    refreshAhead: config.refreshAhead,
    reviewTimeoutMs,
    waiting: requests,
    onWaitingMemoryFull: () => counters.notAdmitted('unknown', 'waiting_memory_full'),
    wallClock: clock.time,
    authorityDown: () => watch.authorityDown,
    onLookup(result) {
      counters.looked(result);
      if (result === 'hit_positive') pace.good();
      if (result === 'stale') grace.served();
    },
    onRenewal: counters.renewed,
  });
  const authority = prescreened(withFailureLimit(config, remembering), {
    opaqueTokens: config.opaqueTokens,
    onRefusal: counters.refusedLocally,
  });

  // Nobody's token: all that is of interest is whether it can be asked about. It goes first, since its answer ends what an
  // outage or a request for less has brought about.
  const nobody = new Token('gatecar-readiness-probe');
  const watch = health({
    log,
    probe: async () => admission.review(nobody, { lane: 'verified', signal: AbortSignal.timeout(reviewTimeoutMs) }),
    onAuthorityUp() {
      grace.ended();
      keys?.refresh();
    },
  });
  counters.observe({
    entries: store => (store === 'accepted' ? accepted : refused).size,
    inFlight: admission.inFlight,
    queued: admission.queued,
    reviewLimit: () => admission.limit,
    authorityUp: () => watch.authorityUp,
    graceActive: () => grace.active,
    clockSkewMs: () => clock.skewMs,
  });
  return {
    authorize: authorizeWith(authority, policyOf(config)),
    health: watch,
    async close() {
      watch.stop();
      lag.stop();
      await connection.close();
    },
  };
}

/** The connection to the API server that the settings name. */
export function openConnection(config: Config, surroundings: Surroundings, version: string): KubeConnection {
  return kubeConnection({
    source: () => endpointSource(config, surroundings),
    maxConnections: config.reviewMaxConcurrency,
    userAgent: `gatecar/${version}`,
  });
}

/** Who may pass by the settings. */
export function policyOf({ allowedNamespaces, allowedServiceAccounts }: Config): Policy {
  return {
    allowedNamespaces: allowedNamespaces && new Set(allowedNamespaces),
    allowedServiceAccounts: allowedServiceAccounts && new Set(allowedServiceAccounts),
  };
}

function withFailureLimit({ failureLimit }: Config, inner: Cached): Authority {
  if (failureLimit === undefined) return inner;
  const { count: failures, windowMs } = failureLimit;
  return limited(inner, failureCounter({ failures, windowMs, maxAddresses: MAX_ADDRESSES }));
}

/** What the cluster publishes for checking tokens here; `undefined` where that is not wanted. */
function publishedKeys(
  { localChecks, reviewTimeoutMs }: Config,
  connection: KubeConnection,
  counters: Metrics,
  log: Logger,
): ClusterKeys | undefined {
  if (localChecks === 'off') return undefined;
  const tell = keysLog(log);
  return clusterKeys({
    get: path => connection.get(path, AbortSignal.timeout(reviewTimeoutMs)),
    withKeys: localChecks === 'signature',
    maxWaitMs: Math.min(MAX_KEYS_WAIT_MS, reviewTimeoutMs / 4),
    onFetch(problem) {
      counters.keysFetched(problem === undefined);
      tell(problem);
    },
  });
}
