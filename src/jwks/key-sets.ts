import type { JwsVerifier, SignatureCheck } from './jws-verifier.ts';
import { readKeys } from './published-documents.ts';

/** How many replaced key sets are kept, and for how long in milliseconds: the API servers of a cluster may disagree. */
const MAX_REPLACED = 2;
const REPLACED_FOR_MS = 600_000;

/** The key set that was last published, and those that it has replaced. */
export interface KeySets {
  /** Whether there is a key to verify with. */
  readonly usable: boolean;
  /** Whether another set was published within the last minutes. */
  readonly haveChanged: boolean;
  /** Takes a JWK Set as it came. @throws {KubeConnectionError} for any other text; then nothing changes. */
  publish(body: string): void;
  /** Another number for another current set. */
  readonly revision: number;
  /** Checks a signature with the current set. */
  check(jws: string): SignatureCheck | Promise<SignatureCheck>;
  /** Whether a key of a replaced set has made the signature: another API server may still use it. */
  isOfReplaced(jws: string): Promise<boolean>;
}

interface KeySet {
  readonly keys: JwsVerifier;
  readonly body: string;
}

interface ReplacedKeySet extends KeySet {
  readonly replacedAt: number;
}

/** @param now milliseconds on a clock that never goes back. */
export function keySets(now: () => number): KeySets {
  let current: KeySet | undefined;
  let replaced: readonly ReplacedKeySet[] = [];
  let revision = 0;

  const isRecent = ({ replacedAt }: ReplacedKeySet): boolean => now() - replacedAt < REPLACED_FOR_MS;

  return {
    get usable() {
      return current?.keys.usable === true;
    },
    get haveChanged() {
      return replaced.some(isRecent);
    },
    get revision() {
      return revision;
    },
    publish(body) {
      // The same text, which is the rule, is not parsed again: there may be a thousand keys in it.
      if (current?.body === body) return;
      const next = { keys: readKeys(body), body };
      const others = current === undefined ? replaced : [{ ...current, replacedAt: now() }, ...replaced];
      replaced = others.filter(other => other.body !== body && isRecent(other)).slice(0, MAX_REPLACED);
      current = next;
      revision += 1;
    },
    check: jws => current?.keys.verify(jws) ?? 'unknown key',
    async isOfReplaced(jws) {
      for (const { keys } of replaced.filter(isRecent)) {
        if ((await keys.verify(jws)) === 'good') return true;
      }
      return false;
    },
  };
}
