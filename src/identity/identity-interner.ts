import { MAX_INTERNED, MAX_INTERNED_LENGTH } from '../limits/constants.ts';
import type { Identity, ServiceAccountName } from './identity.ts';

/**
 * Returns a function that copies identities into frozen objects for the cache. Values that tokens
 * of one ServiceAccount, namespace or node have in common are stored once. Pod and credential ID
 * are not shared, since they differ from token to token.
 */
export function identityInterner(): (identity: Identity) => Identity {
  const strings = interner<string>();
  const lists = interner<readonly string[]>();
  const accounts = interner<ServiceAccountName>();
  const string = (text: string) => strings(text, () => text);
  // JSON gives different lists different keys.
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
 * Returns a function that creates one value per key and returns it again for an equal key. At
 * {@link MAX_INTERNED} values it forgets all of them.
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
