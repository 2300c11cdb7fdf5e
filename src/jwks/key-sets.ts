import { JWKS_MAX_REPLACED_SETS, JWKS_REPLACED_FOR_MS } from '../limits/constants.ts';
import type { JwsVerifier, SignatureCheck } from './jws-verifier.ts';
import { readKeys } from './published-documents.ts';

/** The key set that was published last, and the sets that it replaced. */
export interface KeySets {
  /** Whether there is a key to verify with. */
  readonly hasKeys: boolean;
  /** Whether the current set replaced another one within the last ten minutes. */
  readonly changedRecently: boolean;
  /**
   * Publishes a JWK Set, given as received. @throws {KubeApiError} for any other text; then nothing
   * changes.
   */
  publish(body: string): void;
  /** A number that changes with the current set. */
  readonly revision: number;
  /** Checks a signature with the current set. */
  check(jws: string): SignatureCheck | Promise<SignatureCheck>;
  /**
   * Whether a key of a replaced set made the signature. Another API server may still use that key.
   */
  isSignedByReplacedKey(jws: string): Promise<boolean>;
}

interface KeySet {
  readonly keys: JwsVerifier;
  readonly body: string;
}

interface ReplacedKeySet extends KeySet {
  readonly replacedAt: number;
}

/** Creates an empty {@link KeySets}. @param now a monotonic clock in milliseconds. */
export function keySets(now: () => number): KeySets {
  let current: KeySet | undefined;
  let replaced: readonly ReplacedKeySet[] = [];
  let revision = 0;

  const isRecent = ({ replacedAt }: ReplacedKeySet): boolean => now() - replacedAt < JWKS_REPLACED_FOR_MS;

  return {
    get hasKeys() {
      return current?.keys.usable === true;
    },
    get changedRecently() {
      return replaced.some(isRecent);
    },
    get revision() {
      return revision;
    },
    publish(body) {
      // The text is usually unchanged. It is then not parsed again, since the set may be large.
      if (current?.body === body) return;
      const next = { keys: readKeys(body), body };
      const others = current === undefined ? replaced : [{ ...current, replacedAt: now() }, ...replaced];
      replaced = others.filter(other => other.body !== body && isRecent(other)).slice(0, JWKS_MAX_REPLACED_SETS);
      current = next;
      revision += 1;
    },
    check: jws => current?.keys.verify(jws) ?? 'unknown key',
    async isSignedByReplacedKey(jws) {
      for (const { keys } of replaced.filter(isRecent)) {
        if ((await keys.verify(jws)) === 'valid') return true;
      }
      return false;
    },
  };
}
