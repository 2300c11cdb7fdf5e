import { encodeItem, encodeValue } from './header-encoding.ts';
import type { Identity } from './identity.ts';

/**
 * The headers' short names, which follow the prefix. Earlier headers take their bytes of
 * {@link maxValueBytes} first.
 */
export const IDENTITY_HEADERS = [
  'User',
  'Uid',
  'Namespace',
  'Service-Account',
  'Pod',
  'Pod-Uid',
  'Node',
  'Node-Uid',
  'Credential-Id',
  'Audiences',
  'Groups',
  'Truncated',
] as const;

type Name = (typeof IDENTITY_HEADERS)[number];

/** Lists request headers that Envoy's ext_authz removes before it forwards the request. */
export const REMOVE_HEADER = 'x-envoy-auth-headers-to-remove';

/**
 * nginx and ingress-nginx read the whole response head into a buffer of 4 KiB and answer 500 if it
 * does not fit. The status line and the other headers (`Date`, `Connection`, `Cache-Control`, …)
 * take the reserved bytes. The rest is for identity headers.
 */
const HEAD_LIMIT = 4096;
const RESERVED_FOR_OTHERS = 384;

/**
 * Maximum length of the configured prefix, in characters. With it, the names and the removal list
 * still leave 2 KiB for values.
 */
export const MAX_PREFIX_LENGTH = 40;

/** Bytes of `Name: value\r\n` without name and value. */
const LINE_OVERHEAD = 4;

/**
 * Returns how many bytes are left for values. Each name with `prefix` takes its length twice: in
 * its header and in the removal list.
 */
export function maxValueBytes(prefix: string): number {
  const names = IDENTITY_HEADERS.reduce((sum, name) => sum + prefix.length + name.length + LINE_OVERHEAD, 0);
  const removal = REMOVE_HEADER.length + LINE_OVERHEAD + names;
  const truncated = IDENTITY_HEADERS.join(',').length;
  return HEAD_LIMIT - RESERVED_FOR_OTHERS - names - removal - truncated;
}

/**
 * Returns a function that renders an identity as a flat list of header names and values. Every
 * header occurs once. It is empty if the identity has no such value, so a client's own header never
 * reaches the upstream. {@link REMOVE_HEADER} follows, with the names of the empty headers.
 *
 * The response head stays below 4 KiB. Lists are cut between items. A single value that does not
 * fit is left empty, since half a name could be another user's name. `Truncated` has the short
 * names of the headers that were cut.
 *
 * @param prefix the prefix of each short name, such as `X-Auth-Request-`.
 * @returns the function. For `undefined` (no identity), every header is empty.
 */
export function createIdentityHeaders(prefix: string): (identity: Identity | undefined) => string[] {
  const names = IDENTITY_HEADERS.map(name => prefix + name);
  const valuesOf = identityValues(prefix);
  return identity => {
    const values = valuesOf(identity);
    const headers: string[] = [];
    const empty: string[] = [];
    names.forEach((name, at) => {
      const value = values[at] as string;
      headers.push(name, value);
      if (value === '') empty.push(name);
    });
    if (empty.length > 0) headers.push(REMOVE_HEADER, empty.join(','));
    return headers;
  };
}

/** Returns a function that encodes the header values, in the order of {@link IDENTITY_HEADERS}. */
function identityValues(prefix: string): (identity: Identity | undefined) => readonly string[] {
  const limit = maxValueBytes(prefix);
  const emptyValues = IDENTITY_HEADERS.map(() => '');
  return identity => (identity === undefined ? emptyValues : encodeWithinLimit(identity, limit));
}

/** Encodes and cuts the values to `limit` bytes, in the order of {@link IDENTITY_HEADERS}. */
function encodeWithinLimit(identity: Identity, limit: number): string[] {
  const values: string[] = [];
  const truncated: Name[] = [];
  let left = limit;
  const take = (value: string, whole: boolean): void => {
    if (!whole) truncated.push(IDENTITY_HEADERS[values.length] as Name);
    values.push(value);
    left -= value.length;
  };
  for (const value of scalarValues(identity)) {
    const encoded = encodeValue(value);
    if (encoded.length <= left) take(encoded, true);
    else take('', false);
  }
  for (const items of [identity.audiences, identity.groups]) {
    const fitting = joinWithinLimit(items, left);
    take(fitting.text, fitting.whole);
  }
  values.push(truncated.join(','));
  return values;
}

function scalarValues({ username, uid, serviceAccount, pod, podUid, node, nodeUid, credentialId }: Identity): string[] {
  const { namespace = '', name = '' } = serviceAccount ?? {};
  return [username, uid, namespace, name, pod, podUid, node, nodeUid, credentialId];
}

interface Fitting {
  readonly text: string;
  readonly whole: boolean;
}

/**
 * Joins as many whole items as fit into `limit` bytes. An empty item would look like no item. It is
 * left out, which counts as truncation.
 */
function joinWithinLimit(items: readonly string[], limit: number): Fitting {
  let text = '';
  let whole = true;
  for (const item of items) {
    if (item === '') {
      whole = false;
      continue;
    }
    const next = text === '' ? encodeItem(item) : `${text},${encodeItem(item)}`;
    if (next.length > limit) return { text, whole: false };
    text = next;
  }
  return { text, whole };
}
