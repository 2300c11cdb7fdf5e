import type { Identity, ServiceAccountName } from './identity.ts';

/** Stands between the parts; an identity in which it occurs is left as it is. */
const SEPARATOR = '\n';

/** The groups of every ServiceAccount (apiserver `serviceaccount.MakeGroupNames`, and `system:authenticated`). */
function groupsOf(namespace: string): string[] {
  return ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'];
}

/**
 * A ServiceAccount in one string, its parts read where they are asked for: as an object of strings it takes four times the
 * room, and there is one for each live verdict.
 */
class PackedServiceAccount implements Identity {
  readonly audiences: readonly string[];
  readonly #parts: string;

  constructor(parts: string, audiences: readonly string[]) {
    this.#parts = parts;
    this.audiences = audiences;
  }

  get serviceAccount(): ServiceAccountName {
    return { namespace: this.#part(0), name: this.#part(1) };
  }

  get username(): string {
    return `system:serviceaccount:${this.#part(0)}:${this.#part(1)}`;
  }

  get groups(): readonly string[] {
    return groupsOf(this.#part(0));
  }

  get uid(): string {
    return this.#part(2);
  }

  get pod(): string {
    return this.#part(3);
  }

  get podUid(): string {
    return this.#part(4);
  }

  get node(): string {
    return this.#part(5);
  }

  get nodeUid(): string {
    return this.#part(6);
  }

  get credentialId(): string {
    return this.#part(7);
  }

  #part(wanted: number): string {
    let from = 0;
    for (let at = 0; at < wanted; at += 1) from = this.#parts.indexOf(SEPARATOR, from) + 1;
    const to = this.#parts.indexOf(SEPARATOR, from);
    return this.#parts.slice(from, to < 0 ? undefined : to);
  }
}

/**
 * Packs identities for being kept; equal lists of audiences that come one after the other are kept once.
 *
 * @returns what reads the same as what it was given: itself, where it is no ServiceAccount as the API server makes them.
 */
export function identityPacker(): (identity: Identity) => Identity {
  let audiences: readonly string[] = [];
  return identity => {
    const { serviceAccount, uid, pod, podUid, node, nodeUid, credentialId } = identity;
    if (serviceAccount === undefined) return identity;
    if (!sameItems(identity.audiences, audiences)) audiences = identity.audiences;
    const values = [serviceAccount.namespace, serviceAccount.name, uid, pod, podUid, node, nodeUid, credentialId];
    const packed = new PackedServiceAccount(values.join(SEPARATOR), audiences);
    const isWhole = !values.some(value => value.includes(SEPARATOR)) && sameItems(packed.groups, identity.groups);
    return isWhole && packed.username === identity.username ? packed : identity;
  };
}

function sameItems(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((item, at) => item === other[at]);
}
