import type { Identity, ServiceAccountName } from './identity.ts';

/** How many different strings are shared at a time, and how many lists and ServiceAccounts. */
export const MAX_INTERNED = 4096;

/** Values longer than this, in characters, are not shared: the memory of shared values is bounded. */
export const MAX_INTERNED_LENGTH = 512;

/**
 * Returns a function that copies identities into frozen objects for the cache. What the tokens of a
 * ServiceAccount, a namespace or a node have in common is held once. Pod and credential ID are not
 * shared, since they differ from token to token.
 */
export function identityInterner(): (identity: Identity) => Identity {
  const strings = interner<string>();
  const lists = interner<readonly string[]>();
  const accounts = interner<ServiceAccountName>();
  const string = (text: string) => strings(text, () => text);
  // As JSON, two different lists never have the same key.
  const list = (items: readonly string[]) => lists(JSON.stringify(items), () => Object.freeze(items.map(string)));
  const account = ({ namespace, name }: ServiceAccountName) =>
    accounts(JSON.stringify([namespace, name]), () => Object.freeze({ namespace, name }));
  return ({ username, uid, groups, serviceAccount, pod, podUid, node, nodeUid, credentialId, audiences }) =>
    Object.freeze({
      username: string(username),
      uid: string(uid),
      groups: list(groups),
      serviceAccount: serviceAccount && account(serviceAccount),
      pod,
      podUid,
      node: string(node),
      nodeUid: string(nodeUid),
      credentialId,
      audiences: list(audiences),
    });
}

/**
 * Returns a function that creates one value per key and returns it again for an equal key. When it
 * holds {@link MAX_INTERNED} values, it starts over.
 */
function interner<T extends string | object>(): (key: string, create: () => T) => T {
  const values = new Map<string, T>();
  return (key, create) => {
    const held = values.get(key);
    if (held !== undefined) return held;
    const value = create();
    if (key.length > MAX_INTERNED_LENGTH) return value;
    if (values.size === MAX_INTERNED) values.clear();
    values.set(key, value);
    return value;
  };
}
