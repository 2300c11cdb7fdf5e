import { equalTexts } from '../cache/equal-texts.ts';
import type { CacheKey } from '../cache/key.ts';
import type { VerdictStore } from '../cache/verdict-store.ts';
import { readClaims } from '../credential/claims.ts';
import type { Token } from '../credential/token.ts';
import type { Identity } from '../identity/identity.ts';
import { identityPacker, type Packed, PackedServiceAccount } from '../identity/packed.ts';
import type { Accepted } from './authority.ts';
import { type Life, lifeOf } from './renewal.ts';

/** How many accounts, and how many nodes, are known again when they come with another token. */
const MAX_SHARED = 1024;

/** A yes as it is stored: in one object, with no number that needs one of its own, since there may be a hundred thousand. */
export interface Known extends Accepted, Life {
  /** The token's own end, in seconds since the epoch (as milliseconds, an object of its own), where it has one. */
  readonly expiresAt: number | undefined;
  /** Each life has one renewal at the most. */
  renewing: boolean;
}

/** A ServiceAccount, and itself the verdict on one of its tokens. */
class KnownServiceAccount extends PackedServiceAccount implements Known {
  readonly freshUntil: number;
  readonly renewFrom: number;
  readonly expiresAt: number | undefined;
  renewing = false;

  constructor(packed: Packed, { freshUntil, renewFrom }: Life, expiresAt: number | undefined) {
    super(packed);
    this.freshUntil = freshUntil;
    this.renewFrom = renewFrom;
    this.expiresAt = expiresAt;
  }

  get kind(): 'accepted' {
    return 'accepted';
  }

  get identity(): Identity {
    return this;
  }
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
 * @returns hands back the yes as it is kept, so that who is told it first is told the same as all others.
 */
export function keeper(options: KeepOptions): (key: CacheKey, token: Token, verdict: Accepted) => Accepted {
  const { accepted, ttlMs, graceMs, refreshAhead } = options;
  const { now = () => performance.now(), wallClock = Date.now } = options;
  const pack = identityPacker(equalTexts(MAX_SHARED), equalTexts(MAX_SHARED));
  return (key, token, verdict) => {
    if (ttlMs === 0) return verdict;
    const expiresAtMs = readClaims(token)?.expiresAtMs;
    const expiresAt = expiresAtMs === undefined ? undefined : expiresAtMs / 1000;
    const tokenLifetimeMs = (expiresAtMs ?? Number.POSITIVE_INFINITY) - wallClock();
    const life = lifeOf({ startedAt: now(), ttlMs, tokenLifetimeMs, refreshAhead });
    const packed = pack(verdict.identity);
    const known: Known = packed
      ? new KnownServiceAccount(packed, life, expiresAt)
      : { kind: 'accepted', identity: verdict.identity, ...life, expiresAt, renewing: false };
    accepted.set(key, known, Math.min(ttlMs + graceMs, tokenLifetimeMs));
    return known;
  };
}
