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
import { LabelledCounter, PlainHistogram } from './metric-types.ts';

type Kind = Decision['kind'];

export type Store = 'authenticated' | 'rejected';

export type Listener = Protocol | 'ops';

export type TlsReload = 'success' | 'failure';

/** Why a review was not started. */
export type ReviewRejection = QueueRejection | 'waiting_memory_full' | 'event_loop_lag';

export const STORES: readonly Store[] = ['authenticated', 'rejected'];

export const PRIORITIES: readonly Priority[] = ['verified', 'unverified', 'refresh'];

/** From a cached response (tens of microseconds) to a review that times out, in seconds. */
const DURATION_BOUNDS = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
];

/** The decision for each reason; with it, every counter of decisions starts at 0. */
const KIND_OF_REASON: Readonly<Record<Reason, Exclude<Kind, 'allow'>>> = {
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
const DECISIONS = ['allow ', ...Object.entries(KIND_OF_REASON).map(([reason, kind]) => `${kind} ${reason}`)];

/**
 * Creates the counters and histograms. Those with two labels have both in one key, separated by a
 * space. Known label values start at 0: `rate()` needs a first sample, and an alert must see the
 * first increment.
 */
export function createCounters() {
  return {
    requests: {
      http: new LabelledCounter(DECISIONS),
      grpc: new LabelledCounter(DECISIONS),
    } satisfies Record<Protocol, LabelledCounter<string>>,
    durations: {
      allow: new PlainHistogram(DURATION_BOUNDS),
      deny: new PlainHistogram(DURATION_BOUNDS),
      unavailable: new PlainHistogram(DURATION_BOUNDS),
    } satisfies Record<Kind, PlainHistogram>,
    lookups: new LabelledCounter<LookupResult>(['hit_positive', 'hit_negative', 'miss', 'coalesced', 'stale']),
    evictions: new LabelledCounter<`${Store} ${EvictionCause}`>(
      STORES.flatMap(store => [`${store} capacity`, `${store} expired`] as const),
    ),
    refreshes: new LabelledCounter<AuthResult['kind']>(['authenticated', 'rejected', 'unavailable']),
    reviews: new LabelledCounter<ReviewOutcome>(['authenticated', 'rejected', ...REVIEW_FAILURE_CAUSES]),
    reviewDuration: new PlainHistogram(DURATION_BOUNDS),
    queueDuration: new PlainHistogram(DURATION_BOUNDS),
    reviewsRejected: new LabelledCounter<`${Priority | 'unknown'} ${ReviewRejection}`>([
      ...PRIORITIES.flatMap(priority => [`${priority} queue_full`, `${priority} queue_timeout`] as const),
      'unknown waiting_memory_full',
      'unknown event_loop_lag',
    ]),
    localRejections: new LabelledCounter<ScreeningCheck | ClaimCheck>([
      'length',
      'opaque',
      'expired',
      'not_yet_valid',
      'audience',
      'signature',
    ]),
    jwksFetches: new LabelledCounter<'success' | 'failure'>(['success', 'failure']),
    connectionsRejected: new LabelledCounter<Listener>(['http', 'grpc', 'ops']),
    handshakeFailures: new LabelledCounter<`${Protocol} ${HandshakeFailure}`>(
      HANDSHAKE_FAILURES.flatMap(reason => [`http ${reason}`, `grpc ${reason}`] as const),
    ),
    tlsReloads: new LabelledCounter<TlsReload>(['success', 'failure']),
  };
}

export type Counters = ReturnType<typeof createCounters>;
