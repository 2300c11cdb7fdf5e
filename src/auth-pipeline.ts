import {
  createCache,
  createHealth,
  createJwks,
  createQueue,
  type StageOptions,
  withFailureLimit,
  withPrecheck,
  withThrottle,
} from './auth-stages.ts';
import { withLoadShedding } from './authentication/load-shedding.ts';
import { comparingClocks, serverClock } from './authentication/server-clock.ts';
import { tokenReview } from './authentication/token-review.ts';
import { withTokenScreening } from './authentication/token-screening.ts';
import { createValidTraffic } from './authentication/valid-traffic.ts';
import { type Authorize, authorizeFormatOnly, createAuthorizer } from './authorize.ts';
import { createApiClient, type RuntimeEnvironment } from './kube/endpoint-selection.ts';
import { logClockSkew } from './observability/clock-log.ts';
import type { Logger } from './observability/logging/logger.ts';
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

export interface AuthPipelineOptions extends StageOptions {
  readonly environment: RuntimeEnvironment;
  readonly log: Logger;
  readonly version: string;
}

/**
 * Creates the pipeline. A token passes these stages in order. The first one that can answer does:
 *
 * 1. token screening: too long, or not a JWT where opaque tokens are rejected
 * 2. client failure limit: too many rejections of the same address
 * 3. result cache: a cached result, or a review that is in progress
 * 4. load shedding: the event loop is late
 * 5. rejection throttle: delays rejections while valid tokens are in use
 * 6. JWT pre-check: expired, for other audiences, or not signed by the cluster
 * 7. review queue: a slot, by priority
 * 8. TokenReview: the API server answers
 *
 * They are built from the last to the first.
 */
export function createAuthPipeline(options: AuthPipelineOptions): AuthPipeline {
  const { config, counters, log, environment, version } = options;
  const clock = serverClock({ onChange: logClockSkew(log) });
  const apiClient = comparingClocks(createApiClient(config, environment, version), clock);
  const jwks = createJwks(config, apiClient, counters, log);
  const validTraffic = createValidTraffic();
  const staleServing = logStaleServing(log);
  const lag = eventLoopLag();
  const review = tokenReview({
    connection: apiClient,
    audiences: config.tokenAudiences,
    onReview(event) {
      counters.recordReview(event.outcome, event.durationMs);
      // If other tokens can be verified, a slow token webhook does not mean that it is down.
      healthCheck.recordReview(event, event.priority === 'unverified' && jwks?.hasKeys === true);
    },
  });
  const queue = createQueue(review, options, jwks, validTraffic);
  const precheck = withPrecheck(queue, options, jwks, validTraffic, clock);
  const throttled = withThrottle(precheck, config, validTraffic);
  const shedding = withLoadShedding(throttled, {
    lagMs: lag.current,
    onShed: () => counters.recordReviewRejected('unknown', 'event_loop_lag'),
  });
  const { cache, stores } = createCache(shedding, options, {
    wallClock: clock.time,
    apiServerDown: () => healthCheck.apiServerDown,
    onLookup(result) {
      counters.recordLookup(result);
      if (result === 'hit_positive') validTraffic.note();
      if (result === 'stale') staleServing.served();
    },
  });
  const authenticator = withTokenScreening(withFailureLimit(cache, config), {
    opaqueTokens: config.opaqueTokens,
    onRejection: counters.recordLocalRejection,
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
    close() {
      healthCheck.stop();
      lag.stop();
      return apiClient.close();
    },
  };
}
