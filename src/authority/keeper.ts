import type { CacheKey } from '../cache/key.ts';
import type { VerdictStore } from '../cache/verdict-store.ts';
import { readClaims } from '../credential/claims.ts';
import type { Token } from '../credential/token.ts';
import { identityInterner } from '../identity/identity-interner.ts';
import type { Accepted } from './authority.ts';
import { type Life, lifeOf } from './renewal.ts';

/** An accepted token as it is stored. */
export interface Known extends Accepted, Life {
  /** The `exp` claim, in seconds since the epoch; `undefined` if the token has none. */
  readonly expiresAt: number | undefined;
  /** Set once a renewal is scheduled: each stored verdict is renewed at most once. */
  renewing: boolean;
}

/** @param wallClockMs milliseconds since the epoch. */
export function hasEnded({ expiresAt }: Known, wallClockMs: number): boolean {
  return expiresAt !== undefined && wallClockMs >= expiresAt * 1000;
}

export interface KeepOptions {
  readonly accepted: VerdictStore<Known>;
  /** How long a yes is kept, in milliseconds; 0 keeps none. */
  readonly ttlMs: number;
  /** How long past its TTL a yes may be served while nobody can be asked, in milliseconds; 0: it may not. */
  readonly graceMs: number;
  /** Whether a yes in use is renewed before it ends. */
  readonly refreshAhead: boolean;
  /** Milliseconds on the clock of the stores. */
  readonly now?: () => number;
  /** Milliseconds since the epoch: what a token's `exp` is compared with. */
  readonly wallClock?: () => number;
}

/**
 * Keeps a yes for its time and the time of grace, both never past the token's own end.
 *
 * @returns a function that returns the verdict as stored, so that all requests get the same object.
 */
export function keeper(options: KeepOptions): (key: CacheKey, token: Token, verdict: Accepted) => Accepted {
  const { accepted, ttlMs, graceMs, refreshAhead } = options;
  const { now = () => performance.now(), wallClock = Date.now } = options;
  const intern = identityInterner();
  return (key, token, verdict) => {
    if (ttlMs === 0) return verdict;
    const expiresAtMs = readClaims(token)?.expiresAtMs;
    const expiresAt = expiresAtMs === undefined ? undefined : expiresAtMs / 1000;
    const tokenLifetimeMs = (expiresAtMs ?? Number.POSITIVE_INFINITY) - wallClock();
    const { freshUntil, renewFrom } = lifeOf({ startedAt: now(), ttlMs, tokenLifetimeMs, refreshAhead });
    const identity = intern(verdict.identity);
    const known: Known = { kind: 'accepted', identity, freshUntil, renewFrom, expiresAt, renewing: false };
    accepted.set(key, known, Math.min(ttlMs + graceMs, tokenLifetimeMs));
    return known;
  };
}
