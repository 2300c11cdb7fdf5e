import type { Token } from '../../credential/token.ts';
import type { Unavailable } from '../../decision/decision.ts';
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
import { type CachedResult, createResultWriter, isExpired, type ResultCacheWriterOptions } from './cached-result.ts';
import { refreshTime } from './refresh-schedule.ts';
import type { ResultStore } from './result-store.ts';
import { type Deadline, singleFlight } from './single-flight.ts';

/** The result of a look-up, counted by `gatecar_cache_lookups_total{result}`. */
export type LookupResult = 'hit_positive' | 'hit_negative' | 'miss' | 'coalesced' | 'stale';

/** The weight of the latest refresh in the moving average of durations. */
const REFRESH_WEIGHT = 0.1;
/** A refresh starts at least so many average durations before the result expires. */
const REFRESH_MARGIN = 3;

/** The source that a trace records. On a `miss`, later stages overwrite it if a review runs. */
const SOURCES: Readonly<Record<LookupResult, ResultSource>> = {
  ...{ hit_positive: 'cache', hit_negative: 'cache', miss: 'local', coalesced: 'shared', stale: 'stale' },
};

/** Memory that a waiting request occupies, in bytes, if its gateway does not report it. */
const HELD_BYTES = 4096;

const OVERLOADED: Unavailable = {
  ...{ kind: 'unavailable', reason: 'overloaded', cause: 'waiting_memory_full', retryAfterSeconds: 1 },
};

/** The memory budget for waiting requests, for the whole process. */
export interface WaitingMemory {
  /** Reserves memory. @returns false if the budget does not suffice; nothing is then reserved. */
  tryReserve(bytes: number): boolean;
  release(bytes: number): void;
}

export interface ResultCacheOptions extends ResultCacheWriterOptions {
  readonly key: (token: Token) => CacheKey;
  readonly refused: ResultStore<Rejected>;
  /** How long a rejection is cached, in milliseconds; 0 caches none. */
  readonly negativeTtlMs: number;
  /** How long a review may take, including the wait for a slot, in milliseconds. */
  readonly reviewTimeoutMs: number;
  /** Whether the API server is known to be unreachable. Stale results are then served at once. */
  readonly authorityDown?: () => boolean;
  /** Memory for requests that wait for a review. Without it, they have no limit. */
  readonly waiting?: WaitingMemory;
  /** Called for each request that is rejected because the memory budget is used up. */
  readonly onWaitingMemoryFull?: () => void;
  readonly onLookup?: (result: LookupResult) => void;
  /** Called with the outcome of each refresh. */
  readonly onRenewal?: (outcome: AuthResult['kind']) => void;
  /** Returns a number from 0 up to 1. */
  readonly random?: () => number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
}

/** A {@link TokenAuthenticator} that caches. */
export interface ResultCache extends TokenAuthenticator {
  /** Returns the cached result and starts no review. Only a hit counts as a look-up. */
  getCached(token: Token, asking?: ReviewContext): Authenticated | Rejected | undefined;
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
  const { key: keyOf, accepted, refused, negativeTtlMs, cacheStaleIfErrorMs, reviewTimeoutMs } = options;
  const {
    onLookup = () => {},
    onRenewal = () => {},
    authorityDown = () => false,
    onWaitingMemoryFull = () => {},
  } = options;
  const { waiting = { tryReserve: () => true, release: () => {} } } = options;
  const { now = () => performance.now(), wallClock = Date.now, random = Math.random } = options;
  const { setTimer = (callback, ms) => setTimeout(callback, ms).unref() } = options;
  const flights = singleFlight<CacheKey, AuthResult>({
    deadlineMs: reviewTimeoutMs,
    late: () => unavailable('timeout'),
  });
  const keep = createResultWriter(options);
  let renewalMs = 0;

  const recordLookup = (result: LookupResult, trail: RequestTrace | undefined): void => {
    onLookup(result);
    if (trail !== undefined) trail.source = SOURCES[result];
  };

  /** Stores a result. @returns the result to answer with. */
  const storeResult = (key: CacheKey, token: Token, verdict: AuthResult): AuthResult => {
    switch (verdict.kind) {
      case 'authenticated':
        refused.delete(key);
        return keep(key, token, verdict);
      case 'rejected':
        accepted.delete(key);
        refused.set(key, verdict, Math.min(negativeTtlMs, (verdict.keepUntil ?? Number.POSITIVE_INFINITY) - now()));
        return verdict;
      case 'unavailable':
        return verdict;
    }
  };

  const ask = (
    key: CacheKey,
    token: Token,
    trail: RequestTrace | undefined,
    deadline: Deadline,
  ): AuthResult | Promise<AuthResult> => {
    // After the deadline all callers have been answered, and a later review may have a newer
    // result. A rejection counts nevertheless: the rejection throttle may have delayed it until the
    // deadline. Stale-if-error must not go on for that token.
    const learn = (verdict: AuthResult): AuthResult =>
      !deadline.hasPassed || verdict.kind === 'rejected' ? storeResult(key, token, verdict) : verdict;
    const asking: ReviewContext = {
      get signal() {
        return deadline.signal;
      },
      trail,
    };
    const verdict = inner.authenticate(token, asking);
    return verdict instanceof Promise ? verdict.then(learn) : learn(verdict);
  };

  /**
   * Returns the cached result unless its token has expired. The store's monotonic clock does not
   * suffice: it stops while the machine is suspended.
   */
  const getUnexpired = (key: CacheKey): CachedResult | undefined => {
    const known = accepted.get(key);
    return known === undefined || isExpired(known, wallClock()) ? undefined : known;
  };

  const refresh = async (key: CacheKey, token: Token, known: CachedResult): Promise<void> => {
    // Skips an entry that was evicted or replaced, for example after a rejection.
    if (accepted.get(key) !== known) return;
    const startedAt = now();
    const verdict = await inner.authenticate(token, {
      signal: AbortSignal.timeout(reviewTimeoutMs),
      priority: 'refresh',
    });
    renewalMs += (now() - startedAt - renewalMs) * REFRESH_WEIGHT;
    onRenewal(verdict.kind);
    // An authenticated result counts only if the entry was not replaced in the meantime.
    if (verdict.kind === 'rejected' || accepted.get(key) === known) storeResult(key, token, verdict);
  };

  const scheduleRefresh = (key: CacheKey, token: Token, known: CachedResult): void => {
    known.renewing = true;
    const beginAt = Math.min(refreshTime(known, random()), known.freshUntil - renewalMs * REFRESH_MARGIN);
    setTimer(() => void refresh(key, token, known), Math.max(0, beginAt - now()));
  };

  const serveStale = ({ identity, freshUntil }: CachedResult, trail: RequestTrace | undefined): Authenticated => {
    recordLookup('stale', trail);
    return { kind: 'authenticated', identity, staleForMs: now() - freshUntil };
  };

  const lookUp = (
    key: CacheKey,
    token: Token,
    known: CachedResult | undefined,
    trail: RequestTrace | undefined,
  ): Authenticated | Rejected | undefined => {
    if (known !== undefined) {
      const time = now();
      if (time <= known.freshUntil) {
        if (time >= known.renewFrom && !known.renewing) scheduleRefresh(key, token, known);
        recordLookup('hit_positive', trail);
        return known;
      }
      return cacheStaleIfErrorMs > 0 && authorityDown() ? serveStale(known, trail) : undefined;
    }
    const no = refused.get(key);
    if (no !== undefined) recordLookup('hit_negative', trail);
    return no;
  };

  /** Joins the review in flight for this key, or starts one, within the memory budget. */
  const joinOrStart = (
    key: CacheKey,
    token: Token,
    asking: ReviewContext | undefined,
  ): AuthResult | Promise<AuthResult> => {
    const trail = asking?.trail;
    const flight = flights.join(key);
    recordLookup(flight === undefined ? 'miss' : 'coalesced', trail);
    const heldBytes = asking?.heldBytes ?? HELD_BYTES;
    if (!waiting.tryReserve(heldBytes)) {
      onWaitingMemoryFull();
      return OVERLOADED;
    }
    const verdict = flight ?? flights.start(key, deadline => ask(key, token, trail, deadline));
    if (verdict instanceof Promise) return verdict.finally(() => waiting.release(heldBytes));
    waiting.release(heldBytes);
    return verdict;
  };

  /**
   * Serves the stale result if the API server is unavailable. gatecar's own limits are no reason
   * for that: the API server may be reachable.
   */
  const withStaleFallback = async (
    review: AuthResult | Promise<AuthResult>,
    key: CacheKey,
    known: CachedResult,
    trail: RequestTrace | undefined,
  ): Promise<AuthResult> => {
    const verdict = await review;
    const outage = verdict.kind === 'unavailable' && verdict.reason === 'authority_unavailable';
    // The entry may have left the store: its time ended, or a rejection came in between.
    return outage && getUnexpired(key) === known ? serveStale(known, trail) : verdict;
  };

  return {
    getCached(token, asking) {
      const key = keyOf(token);
      return lookUp(key, token, getUnexpired(key), asking?.trail);
    },
    authenticate(token, asking) {
      const trail = asking?.trail;
      const key = keyOf(token);
      const known = getUnexpired(key);
      const verdict = lookUp(key, token, known, trail);
      if (verdict !== undefined) return verdict;
      const review = joinOrStart(key, token, asking);
      return known === undefined || cacheStaleIfErrorMs === 0 ? review : withStaleFallback(review, key, known, trail);
    },
  };
}
