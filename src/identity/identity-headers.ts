import { encodeItem, encodeValue } from './header-encoding.ts';
import type { Identity } from './identity.ts';

/** A header's short name after the prefix, in the order in which headers claim their share of {@link VALUES_LIMIT}. */
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

/** Envoy's ext_authz removes the request headers named here before the request goes upstream. */
export const REMOVE_HEADER = 'x-envoy-auth-headers-to-remove';

/**
 * nginx and ingress-nginx read the whole response head into a 4 KiB buffer and answer 500 past it. What is left after
 * the status line and the headers that are no identity (`Date`, `Connection`, `Cache-Control`, …) is for these.
 */
const HEAD_LIMIT = 4096;
const RESERVED_FOR_OTHERS = 384;

/** The longest prefix a setting may ask for; with it, names and the removal list still leave room for 2 KiB of values. */
export const MAX_PREFIX_LENGTH = 40;

/** Bytes of `Name: value\r\n` beside name and value. */
const LINE_OVERHEAD = 4;

/** How many bytes of values fit beside all names under `prefix`, each also standing in the removal list. */
export function maxValueBytes(prefix: string): number {
  const names = IDENTITY_HEADERS.reduce((sum, name) => sum + prefix.length + name.length + LINE_OVERHEAD, 0);
  const removal = REMOVE_HEADER.length + LINE_OVERHEAD + names;
  const truncated = IDENTITY_HEADERS.join(',').length;
  return HEAD_LIMIT - RESERVED_FOR_OTHERS - names - removal - truncated;
}

/**
 * Renders identities as a flat list of header names and values, every header once, empty where the identity has no
 * such value, so that a client's own header never survives; then {@link REMOVE_HEADER} with the names of the empty ones.
 *
 * The head stays under 4 KiB: lists are cut between items, a single value that does not fit is left empty (half a name
 * could be somebody else's), and `Truncated` holds the short names of what was cut.
 *
 * @param prefix what stands before each short name, such as `X-Auth-Request-`.
 * @returns takes `undefined` for nobody: every header empty.
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

/** The values, in the order of {@link IDENTITY_HEADERS}, as they stand in a header. */
function identityValues(prefix: string): (identity: Identity | undefined) => readonly string[] {
  const limit = maxValueBytes(prefix);
  const nobody = IDENTITY_HEADERS.map(() => '');
  return identity => (identity === undefined ? nobody : encodeWithinLimit(identity, limit));
}

/** The values, in the order of {@link IDENTITY_HEADERS}. */
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

/** As many whole items as fit. An empty item could not be told from none: it is left out, which counts as a cut. */
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
