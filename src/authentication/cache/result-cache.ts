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

/** What a look-up found: what `gatecar_cache_lookups_total{result}` counts. */
export type LookupResult = 'hit_positive' | 'hit_negative' | 'miss' | 'coalesced' | 'stale';

/** How much the latest renewal counts in the average of their durations, and how many times that average is left for one. */
const REFRESH_WEIGHT = 0.1;
const REFRESH_MARGIN = 3;

/** What a trail is told; at a `miss`, whether anybody will be asked is for the stages behind to say. */
const SOURCES: Readonly<Record<LookupResult, ResultSource>> = {
  ...{ hit_positive: 'cache', hit_negative: 'cache', miss: 'local', coalesced: 'shared', stale: 'grace' },
};

/** What a request takes while it waits, in bytes, if its gateway does not say. */
const HELD_BYTES = 4096;

const OVERLOADED: Unavailable = {
  ...{ kind: 'unavailable', reason: 'overloaded', cause: 'waiting_memory_full', retryAfterSeconds: 1 },
};

/** Memory for requests that wait, of the whole process. */
export interface WaitingMemory {
  /** @returns false if that is more than there is; nothing is then reserved. */
  tryReserve(bytes: number): boolean;
  release(bytes: number): void;
}

export interface ResultCacheOptions extends ResultCacheWriterOptions {
  readonly key: (token: Token) => CacheKey;
  readonly refused: ResultStore<Rejected>;
  /** How long a no is kept, in milliseconds; 0 keeps none. */
  readonly negativeTtlMs: number;
  /** How long one review may take, waiting for admission included, in milliseconds. */
  readonly reviewTimeoutMs: number;
  /** Whether it is known already that nobody can be asked, so that a stale yes need not wait for another failure. */
  readonly authorityDown?: () => boolean;
  /** Every request that waits for a review reserves what it holds. Without it they wait without a limit. */
  readonly waiting?: WaitingMemory;
  /** Called for each request that is rejected because that memory is full. */
  readonly onWaitingMemoryFull?: () => void;
  readonly onLookup?: (result: LookupResult) => void;
  /** Told of how each renewal ended. */
  readonly onRenewal?: (outcome: AuthResult['kind']) => void;
  /** From 0 up to 1. */
  readonly random?: () => number;
  readonly setTimer?: (callback: () => void, ms: number) => void;
}

/** An {@link TokenAuthenticator} that caches. */
export interface ResultCache extends TokenAuthenticator {
  /** Returns the cached verdict and starts no review. Only a hit counts as a look-up. */
  getCached(token: Token, asking?: ReviewContext): Authenticated | Rejected | undefined;
}

/**
 * Remembers verdicts on tokens (never on requests: policy is judged on each), and shares a running review among all who
 * wait for it. An outage is nobody's verdict and is not remembered.
 *
 * A yes is never kept past the token's own `exp`. A yes and a no for one key replace each other. A yes that is used in the
 * last fifth of its life is renewed in the background, once; a no replaces it at once, an outage leaves it to its end.
 * Past that end it may serve for the time of grace, and only while nobody can be asked.
 */
export function withResultCache(inner: TokenAuthenticator, options: ResultCacheOptions): ResultCache {
  const { key: keyOf, accepted, refused, negativeTtlMs, graceMs, reviewTimeoutMs } = options;
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

  /** @returns what is to be told. */
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
    // Past the deadline everybody has been answered, and a later flight may know better by now. A no counts all the same: it
    // may have waited for being told until then, and what it ends must not go on by grace.
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
   * Its time in the store ends with the token, but passes on another clock: that one stands still while the machine is
   * suspended, and takes no part when the other is set.
   */
  const getUnexpired = (key: CacheKey): CachedResult | undefined => {
    const known = accepted.get(key);
    return known === undefined || isExpired(known, wallClock()) ? undefined : known;
  };

  const refresh = async (key: CacheKey, token: Token, known: CachedResult): Promise<void> => {
    // What has made room, or has been refused since, is nobody's any more.
    if (accepted.get(key) !== known) return;
    const startedAt = now();
    const verdict = await inner.authenticate(token, {
      signal: AbortSignal.timeout(reviewTimeoutMs),
      priority: 'refresh',
    });
    renewalMs += (now() - startedAt - renewalMs) * REFRESH_WEIGHT;
    onRenewal(verdict.kind);
    // A yes counts only if nothing newer has been learned meanwhile.
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
      return graceMs > 0 && authorityDown() ? serveStale(known, trail) : undefined;
    }
    const no = refused.get(key);
    if (no !== undefined) recordLookup('hit_negative', trail);
    return no;
  };

  /** Joins the review that is in flight for this key, or starts one, if the process has room for one more that waits. */
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

  /** Our own bound is no reason to serve what is stale: the API server could be asked. */
  const withStaleFallback = async (
    review: AuthResult | Promise<AuthResult>,
    key: CacheKey,
    known: CachedResult,
    trail: RequestTrace | undefined,
  ): Promise<AuthResult> => {
    const verdict = await review;
    const outage = verdict.kind === 'unavailable' && verdict.reason === 'authority_unavailable';
    // Gone from the store: its grace has ended, or a refusal came in between.
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
      return known === undefined || graceMs === 0 ? review : withStaleFallback(review, key, known, trail);
    },
  };
}
