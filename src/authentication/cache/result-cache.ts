import type { Token } from '../../credential/token.ts';
import {
  type Authenticated,
  type AuthResult,
  type Rejected,
  type RequestTrace,
  type ResultSource,
  type ReviewContext,
  type TokenAuthenticator,
  unavailable,
} from '../token-authenticator.ts';
import type { CacheKey } from './cache-key.ts';
import {
  type CachedResult,
  type CachedResults,
  type CachedResultsOptions,
  createCachedResults,
} from './cached-result.ts';
import { createResultRefresh, type ResultRefreshOptions } from './result-refresh.ts';
import { type Deadline, singleFlight } from './single-flight.ts';
import { type WaitingLimitOptions, waitingLimit } from './waiting-memory.ts';

/** The result of a look-up, counted by `gatecar_cache_lookups_total{result}`. */
export type LookupResult = 'hit_positive' | 'hit_negative' | 'miss' | 'coalesced' | 'stale';

/** The source that a trace records. On a `miss`, later stages overwrite it if a review runs. */
const SOURCES: Readonly<Record<LookupResult, ResultSource>> = {
  hit_positive: 'cache',
  hit_negative: 'cache',
  miss: 'local',
  coalesced: 'shared',
  stale: 'stale',
};

export interface ResultCacheOptions extends CachedResultsOptions, ResultRefreshOptions, WaitingLimitOptions {
  readonly key: (token: Token) => CacheKey;
  /** Milliseconds on the clock of the stores. */
  readonly now?: () => number;
  /** Whether the API server is known to be unreachable. Stale results are then served at once. */
  readonly apiServerDown?: () => boolean;
  readonly onLookup?: (result: LookupResult) => void;
}

/** A {@link TokenAuthenticator} that caches. */
export interface ResultCache extends TokenAuthenticator {
  /** Returns the cached result and starts no review. Only a hit counts as a look-up. */
  getCached(token: Token, context?: ReviewContext): Authenticated | Rejected | undefined;
}

/**
 * Caches results per token and coalesces concurrent reviews of the same token. Policy is not
 * cached: it is evaluated on every request. Outages are never cached.
 *
 * An authenticated result is never cached past the token's own `exp`. An authenticated result and a
 * rejection with the same key replace each other.
 *
 * An authenticated result that is used in the last fifth of its TTL is refreshed once in the
 * background. A rejection then replaces it immediately; an outage leaves it until it expires. After
 * the TTL it may be served for the stale-if-error period, but only while the API server is
 * unreachable.
 */
export function withResultCache(inner: TokenAuthenticator, options: ResultCacheOptions): ResultCache {
  const { key: keyOf, cacheStaleIfErrorMs, now = () => performance.now(), apiServerDown = () => false } = options;
  const results = createCachedResults(options);
  const scheduleRefresh = createResultRefresh(inner, results, options);
  const joinOrStart = createSharedReviews(inner, results, options);

  const serveStale = ({ identity, freshUntil }: CachedResult, trace: RequestTrace | undefined): Authenticated => {
    recordLookup('stale', trace, options);
    return { kind: 'authenticated', identity, staleForMs: now() - freshUntil };
  };

  const lookUp = (
    key: CacheKey,
    token: Token,
    cached: CachedResult | undefined,
    trace: RequestTrace | undefined,
  ): Authenticated | Rejected | undefined => {
    if (cached !== undefined) {
      const time = now();
      if (time <= cached.freshUntil) {
        if (time >= cached.refreshAfter && !cached.refreshing) scheduleRefresh(key, token, cached);
        recordLookup('hit_positive', trace, options);
        return cached;
      }
      return cacheStaleIfErrorMs > 0 && apiServerDown() ? serveStale(cached, trace) : undefined;
    }
    const rejection = results.getRejection(key);
    if (rejection !== undefined) recordLookup('hit_negative', trace, options);
    return rejection;
  };

  return {
    getCached(token, context) {
      const key = keyOf(token);
      return lookUp(key, token, results.getUnexpired(key), context?.trace);
    },
    authenticate(token, context) {
      const trace = context?.trace;
      const key = keyOf(token);
      const cached = results.getUnexpired(key);
      const result = lookUp(key, token, cached, trace);
      if (result !== undefined) return result;
      const review = joinOrStart(key, token, context);
      if (cached === undefined || cacheStaleIfErrorMs === 0) return review;
      // The entry may have left the store: its time ended, or a rejection came in between.
      return orStale(review, () => (results.getUnexpired(key) === cached ? serveStale(cached, trace) : undefined));
    },
  };
}

/**
 * Shares a review with all requests that need its result.
 *
 * @returns a function that joins the review in flight for a key, or starts one, within the memory
 *   budget.
 */
function createSharedReviews(
  inner: TokenAuthenticator,
  results: CachedResults,
  options: ResultCacheOptions,
): (key: CacheKey, token: Token, context: ReviewContext | undefined) => AuthResult | Promise<AuthResult> {
  const withinMemory = waitingLimit(options);
  const flights = singleFlight<CacheKey, AuthResult>({
    deadlineMs: options.reviewTimeoutMs,
    onTimeout: () => unavailable('timeout'),
  });

  const review = (
    key: CacheKey,
    token: Token,
    trace: RequestTrace | undefined,
    deadline: Deadline,
  ): AuthResult | Promise<AuthResult> => {
    // After the deadline all callers have been answered, and a later review may have a newer
    // result. A rejection counts nevertheless: the throttle may have delayed it until the deadline.
    // Stale-if-error must not go on for that token.
    const record = (result: AuthResult): AuthResult =>
      !deadline.hasPassed || result.kind === 'rejected' ? results.store(key, token, result) : result;
    const context: ReviewContext = {
      get signal() {
        return deadline.signal;
      },
      trace,
    };
    const result = inner.authenticate(token, context);
    return result instanceof Promise ? result.then(record) : record(result);
  };

  return (key, token, context) => {
    const trace = context?.trace;
    const flight = flights.join(key);
    recordLookup(flight === undefined ? 'miss' : 'coalesced', trace, options);
    return withinMemory(context, () => flight ?? flights.start(key, deadline => review(key, token, trace, deadline)));
  };
}

/**
 * Serves the stale result if the API server is unavailable. gatecar's own limits are no reason for
 * that: the API server may be reachable.
 */
async function orStale(
  review: AuthResult | Promise<AuthResult>,
  stale: () => Authenticated | undefined,
): Promise<AuthResult> {
  const result = await review;
  const isOutage = result.kind === 'unavailable' && result.reason === 'authority_unavailable';
  return (isOutage ? stale() : undefined) ?? result;
}

function recordLookup(
  result: LookupResult,
  trace: RequestTrace | undefined,
  { onLookup }: Pick<ResultCacheOptions, 'onLookup'>,
): void {
  onLookup?.(result);
  if (trace !== undefined) trace.source = SOURCES[result];
}
