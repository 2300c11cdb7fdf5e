import { encodeItem, encodeValue } from './encode.ts';
import type { Identity, ServiceAccountName } from './identity.ts';

/** Stands between the parts, and in none of them. */
const SEPARATOR = '\n';

/** What a {@link PackedServiceAccount} holds, in the order of its headers. */
export type PackedValues = readonly [
  namespace: string,
  name: string,
  uid: string,
  pod: string,
  podUid: string,
  node: string,
  nodeUid: string,
  credentialId: string,
];

/** The groups of every ServiceAccount: these, and between them that of its namespace (apiserver `serviceaccount.MakeGroupNames`). */
export const FIRST_GROUP = 'system:serviceaccounts';
export const LAST_GROUP = 'system:authenticated';

/** The group of all ServiceAccounts in a namespace. */
export function groupOf(namespace: string): string {
  return `${FIRST_GROUP}:${namespace}`;
}

function groupsOf(namespace: string): readonly string[] {
  return [FIRST_GROUP, groupOf(namespace), LAST_GROUP];
}

/** The username of a ServiceAccount (apiserver `serviceaccount.MakeUsername`). */
export function usernameOf(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`;
}

/** What a {@link PackedServiceAccount} is made of. */
export interface Packed {
  /** Namespace, name, UID. */
  readonly account: string;
  /** Its name and UID. */
  readonly node: string;
  /** Pod, pod UID, credential ID. */
  readonly token: string;
  readonly audiences: readonly string[];
}

/**
 * A ServiceAccount in three strings, of which two are shared with its other tokens and with whatever runs on its node; their
 * parts are read where they are asked for. As an object of strings it takes six times the room, and there is one for each live
 * verdict. Every value of it may stand in a header as it is.
 */
export class PackedServiceAccount implements Identity {
  readonly audiences: readonly string[];
  readonly #account: string;
  readonly #node: string;
  readonly #token: string;

  constructor({ account, node, token, audiences }: Packed) {
    this.#account = account;
    this.#node = node;
    this.#token = token;
    this.audiences = audiences;
  }

  get serviceAccount(): ServiceAccountName {
    const [namespace, name] = this.values;
    return { namespace, name };
  }

  get username(): string {
    const [namespace, name] = this.values;
    return usernameOf(namespace, name);
  }

  get groups(): readonly string[] {
    return groupsOf(this.values[0]);
  }

  get uid(): string {
    return this.values[2];
  }

  get pod(): string {
    return this.values[3];
  }

  get podUid(): string {
    return this.values[4];
  }

  get node(): string {
    return this.values[5];
  }

  get nodeUid(): string {
    return this.values[6];
  }

  get credentialId(): string {
    return this.values[7];
  }

  /** All of them at once. */
  get values(): PackedValues {
    const account = this.#account;
    const name = account.indexOf(SEPARATOR) + 1;
    const uid = account.indexOf(SEPARATOR, name) + 1;
    const node = this.#node;
    const nodeUid = node.indexOf(SEPARATOR) + 1;
    const token = this.#token;
    const podUid = token.indexOf(SEPARATOR) + 1;
    const credentialId = token.indexOf(SEPARATOR, podUid) + 1;
    return [
      account.slice(0, name - 1),
      account.slice(name, uid - 1),
      account.slice(uid),
      token.slice(0, podUid - 1),
      token.slice(podUid, credentialId - 1),
      node.slice(0, nodeUid - 1),
      node.slice(nodeUid),
      token.slice(credentialId),
    ];
  }
}

/** Gives back for a text one that is equal, always the same one where it can. */
export type Share = (text: string) => string;

/**
 * Packs identities for being kept; equal lists of audiences that come one after the other are kept once.
 *
 * @param accounts for what all tokens of an account have in common.
 * @param nodes for what all that runs on a node has in common.
 * @returns gives what a {@link PackedServiceAccount} that reads the same is made of; `undefined` for who is no ServiceAccount as the
 *   API server makes them, or has values that a header cannot hold as they are.
 */
export function identityPacker(accounts: Share, nodes: Share): (identity: Identity) => Packed | undefined {
  let audiences: readonly string[] = [];
  return identity => {
    if (!isPackable(identity)) return undefined;
    const { serviceAccount, uid, pod, podUid, node, nodeUid, credentialId } = identity;
    if (!sameItems(identity.audiences, audiences)) audiences = identity.audiences;
    return {
      account: accounts([serviceAccount.namespace, serviceAccount.name, uid].join(SEPARATOR)),
      node: nodes([node, nodeUid].join(SEPARATOR)),
      token: [pod, podUid, credentialId].join(SEPARATOR),
      audiences,
    };
  };
}

function isPackable(identity: Identity): identity is Identity & { readonly serviceAccount: ServiceAccountName } {
  const { serviceAccount, username, groups, uid, pod, podUid, node, nodeUid, credentialId } = identity;
  if (serviceAccount === undefined) return false;
  const { namespace, name } = serviceAccount;
  const isPlain = (value: string) => encodeValue(value) === value;
  return (
    [namespace, name, uid, pod, podUid, node, nodeUid, credentialId].every(isPlain) &&
    // It stands in the list of groups too.
    encodeItem(namespace) === namespace &&
    username === usernameOf(namespace, name) &&
    sameItems(groups, groupsOf(namespace))
  );
}

function sameItems(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((item, at) => item === other[at]);
}
