import type { CacheKey } from '../cache/key.ts';
import type { VerdictStore } from '../cache/verdict-store.ts';
import { readClaims } from '../credential/claims.ts';
import type { Token } from '../credential/token.ts';
import { identityPacker } from '../identity/packed.ts';
import type { Accepted } from './authority.ts';
import { type Life, lifeOf } from './renewal.ts';

/** A yes as it is stored, in few objects: there may be a hundred thousand. */
export interface Known extends Life {
  readonly verdict: Accepted;
  /** The token's own end, in milliseconds since the epoch; `Infinity` where it has none. */
  readonly expiresAtMs: number;
  /** Each life has one renewal at the most. */
  renewing: boolean;
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
  /** From 0 up to 1. */
  readonly random?: () => number;
}

/**
 * Keeps a yes for its time and the time of grace, both never past the token's own end.
 *
 * @returns hands back the yes as it is kept, so that who is told it first is told the same as all others.
 */
export function keeper(options: KeepOptions): (key: CacheKey, token: Token, verdict: Accepted) => Accepted {
  const { accepted, ttlMs, graceMs, refreshAhead } = options;
  const { now = () => performance.now(), wallClock = Date.now, random = Math.random } = options;
  const pack = identityPacker();
  const packed = (verdict: Accepted): Accepted => {
    const identity = pack(verdict.identity);
    return identity === verdict.identity ? verdict : { kind: 'accepted', identity };
  };
  return (key, token, verdict) => {
    if (ttlMs === 0) return verdict;
    const expiresAtMs = readClaims(token)?.expiresAtMs ?? Number.POSITIVE_INFINITY;
    const tokenLifetimeMs = expiresAtMs - wallClock();
    const { freshUntil, renewFrom, renewAt } = lifeOf({
      ...{ startedAt: now(), ttlMs, tokenLifetimeMs, refreshAhead, jitter: random() },
    });
    const kept = packed(verdict);
    const known = { verdict: kept, freshUntil, renewFrom, renewAt, expiresAtMs, renewing: false };
    accepted.set(key, known, Math.min(ttlMs + graceMs, tokenLifetimeMs));
    return kept;
  };
}
