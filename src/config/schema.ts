import {
  address,
  audiences,
  baseUrl,
  boolean,
  bytes,
  duration,
  headerName,
  headerPairs,
  headerPrefix,
  namespaces,
  nonControlText,
  oneOf,
  path,
  paths,
  peers,
  rate,
  type SettingType,
  serviceAccounts,
  socketMode,
  statusOneOf,
  wholeNumber,
} from './setting-types.ts';

/** One setting: the single source of its names, type, default, limits and help. */
export interface Setting<T, D extends string | undefined = string | undefined> {
  /** The environment variable. {@link flagName} derives the flag from it. */
  readonly name: `GATECAR_${string}`;
  /** Other accepted environment variables for the same setting. */
  readonly aliases: readonly string[];
  readonly type: SettingType<T>;
  /** As a user would write it; `undefined` if there is no default. */
  readonly default: D;
  /** The name of the default in the documentation, if its text is not clear by itself. */
  readonly defaultLabel?: string;
  readonly help: string;
  /** Whether an empty value means "not set", as is common in environments for paths and names. */
  readonly emptyIsUnset?: boolean;
}

function setting<T, const D extends string | undefined>(
  name: `GATECAR_${string}`,
  type: SettingType<T>,
  fallback: D,
  help: string,
  more: { aliases?: readonly string[]; defaultLabel?: string; emptyIsUnset?: boolean } = {},
): Setting<T, D> {
  return { name, aliases: [], type, default: fallback, help, ...more };
}

export const IN_CLUSTER_TOKEN_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/token';
export const IN_CLUSTER_CA_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt';

/** Every setting, in the order of the documentation. */
export const SETTINGS = {
  listen: setting('GATECAR_LISTEN', address, ':9080', 'Auth listener: `/auth` and `/auth/*`.'),
  opsListen: setting('GATECAR_OPS_LISTEN', address, ':9081', 'Ops listener: `/livez`, `/readyz`, `/metrics`.'),
  grpcListen: setting(
    'GATECAR_GRPC_LISTEN',
    address,
    undefined,
    'gRPC listener for Envoy: `envoy.service.auth.v3.Authorization/Check` and the standard health service.',
    { defaultLabel: 'off' },
  ),
  socketMode: setting(
    'GATECAR_SOCKET_MODE',
    socketMode,
    '0660',
    'Permissions of every listener that is a Unix socket. A gateway with another user id needs a group in common.',
  ),
  mode: setting(
    'GATECAR_MODE',
    oneOf('tokenreview', 'basic'),
    'tokenreview',
    '`tokenreview` asks the API server about each token. `basic` checks presence and format only, verifies nothing, and ' +
      'needs a loopback auth listener.',
  ),
  allowInsecureBasic: setting(
    'GATECAR_ALLOW_INSECURE_BASIC',
    boolean,
    'false',
    'Lets `basic` mode listen on other than loopback addresses.',
  ),
  tokenAudiences: setting(
    'GATECAR_TOKEN_AUDIENCES',
    audiences,
    'bindcar',
    'Audiences to ask for; a token must have one of them. Set but empty: none is asked for, so only tokens for the API ' +
      'server itself pass (legacy Secret tokens among them).',
    { aliases: ['BIND_TOKEN_AUDIENCES'] },
  ),
  allowedNamespaces: setting(
    'GATECAR_ALLOWED_NAMESPACES',
    namespaces,
    undefined,
    'Namespaces whose ServiceAccounts pass.',
    { aliases: ['BIND_ALLOWED_NAMESPACES'], defaultLabel: 'all' },
  ),
  allowedServiceAccounts: setting(
    'GATECAR_ALLOWED_SERVICE_ACCOUNTS',
    serviceAccounts,
    undefined,
    'ServiceAccounts that pass, as `system:serviceaccount:<namespace>:<name>`. With both lists set, both must pass; a ' +
      'user that is no ServiceAccount passes none.',
    { aliases: ['BIND_ALLOWED_SERVICE_ACCOUNTS'], defaultLabel: 'all' },
  ),
  policyDeniedStatus: setting(
    'GATECAR_POLICY_DENIED_STATUS',
    statusOneOf(401, 403),
    '401',
    'Status where the token is good but its ServiceAccount is not allowed.',
  ),
  unavailableStatus: setting(
    'GATECAR_UNAVAILABLE_STATUS',
    statusOneOf(401, 403, 503),
    '503',
    'Status where nobody could be asked. nginx turns a 503 into a 500 for its client.',
  ),
  errorDetail: setting(
    'GATECAR_ERROR_DETAIL',
    oneOf('full', 'generic'),
    'full',
    '`generic` answers `Unauthorized`, `Forbidden` or `Service Unavailable` and no reason code.',
  ),
  identityHeaderPrefix: setting(
    'GATECAR_IDENTITY_HEADER_PREFIX',
    headerPrefix,
    'X-Auth-Request-',
    'What identity header names begin with.',
  ),
  cacheTtlMs: setting(
    'GATECAR_CACHE_TTL',
    duration('0', '10m'),
    '10s',
    "How long a yes is kept, never past the token's `exp`. 0: none is kept, and concurrent callers still share one review.",
  ),
  cacheNegativeTtlMs: setting(
    'GATECAR_CACHE_NEGATIVE_TTL',
    duration('0', '10m'),
    '2s',
    'How long a no is kept; 0: none is. Outages are never kept.',
  ),
  cacheMaxEntries: setting(
    'GATECAR_CACHE_MAX_ENTRIES',
    wholeNumber(1, 10_000_000),
    '10000',
    'Most results kept, in each of the two stores.',
  ),
  reviewTimeoutMs: setting(
    'GATECAR_REVIEW_TIMEOUT',
    duration('10ms', '1m'),
    '3s',
    'How long one review may take, connecting and waiting for its turn included.',
  ),
  reviewMaxConcurrency: setting(
    'GATECAR_REVIEW_MAX_CONCURRENCY',
    wholeNumber(1, 10_000),
    '32',
    'Most reviews under way at once; also the most connections to the API server, beside one for its signing keys.',
  ),
  reviewMaxQueue: setting(
    'GATECAR_REVIEW_MAX_QUEUE',
    wholeNumber(0, 1_000_000),
    '512',
    'Most reviews waiting for their turn; past it: `overloaded` at once.',
  ),
  maxConnections: setting(
    'GATECAR_MAX_CONNECTIONS',
    wholeNumber(1, 1_000_000),
    undefined,
    'Most open connections, on the auth and on the gRPC listener each. Without it the limit follows from ' +
      '`GATECAR_MEMORY_LIMIT`, for all listeners together. If there is no room for a new connection, gatecar closes the one ' +
      'that has waited longest for its client, or rejects the new one.',
    { defaultLabel: 'by memory' },
  ),
  memoryLimit: setting(
    'GATECAR_MEMORY_LIMIT',
    bytes('64Mi', '64Gi'),
    undefined,
    'Memory from which the limits on connections and waiting requests are derived, such as `256Mi`. Without it: the limit ' +
      "of the container (cgroup), or the machine's memory.",
    { defaultLabel: 'detected' },
  ),
  refreshAhead: setting(
    'GATECAR_REFRESH_AHEAD',
    boolean,
    'true',
    'Renews a result that is in use before it ends, in the background.',
  ),
  graceMs: setting(
    'GATECAR_GRACE',
    duration('0', '60m'),
    '0s',
    'How long past its TTL a known yes may be served while the API server cannot be asked; marked with ' +
      '`X-Gatecar-Stale: <seconds>`. 0: off.',
  ),
  localChecks: setting(
    'GATECAR_LOCAL_CHECKS',
    oneOf('signature', 'claims', 'off'),
    'signature',
    "What is checked before anybody is asked, for JWTs of the cluster's own issuer: `claims` are `exp`, `nbf` and `aud`; " +
      "`signature` checks those and the cluster's own keys. They only refuse, or choose whose turn is first; a yes always " +
      'comes from the API server.',
  ),
  opaqueTokens: setting(
    'GATECAR_OPAQUE_TOKENS',
    oneOf('ask', 'refuse'),
    'ask',
    'Tokens that are no JWT: `ask` the API server, or `refuse` them unasked.',
  ),
  trustedPeers: setting(
    'GATECAR_TRUSTED_PEERS',
    peers,
    undefined,
    "Addresses, CIDRs and `unix` (peers on a Unix socket) whose forwarded headers count: the client's address, the " +
      'original method and URI, the request id, the trace. For logs and the failure limit. gRPC connections of other peers ' +
      'are read frame by frame, which is slower.',
    { defaultLabel: 'none' },
  ),
  clientIpHeader: setting(
    'GATECAR_CLIENT_IP_HEADER',
    headerName,
    undefined,
    "Header in which a trusted peer gives the client's address, such as `X-Real-IP` or `X-Forwarded-For` (rightmost " +
      'address that is no trusted peer).',
    { defaultLabel: 'none' },
  ),
  failureLimit: setting(
    'GATECAR_FAILURE_LIMIT',
    rate,
    undefined,
    'Refusals of one client address, such as `20/1m`; past them its unknown tokens are refused without a review ' +
      '(`too_many_failures`). Known ones pass. Counted by what trusted peers tell; IPv6 by /64.',
    { defaultLabel: 'off' },
  ),
  kubeConfigFiles: setting(
    'GATECAR_KUBECONFIG',
    paths,
    undefined,
    'kubeconfig. Without it: the pod’s own ServiceAccount, else `~/.kube/config`; never a guessed `localhost`.',
    { aliases: ['KUBECONFIG'], emptyIsUnset: true },
  ),
  kubeContext: setting(
    'GATECAR_KUBE_CONTEXT',
    nonControlText,
    undefined,
    "Context instead of the kubeconfig's current one.",
    {
      emptyIsUnset: true,
    },
  ),
  kubeApiUrl: setting(
    'GATECAR_KUBE_API_URL',
    baseUrl,
    undefined,
    'Base URL of the API server or of a proxy to it; path prefix and plain `http` allowed. Over `http` no credential is ' +
      'sent unless the token file is set too.',
    { aliases: ['KUBE_API_SERVER'] },
  ),
  kubeTokenFile: setting('GATECAR_KUBE_TOKEN_FILE', path, undefined, 'Our own token; re-read when it changes.', {
    aliases: ['KUBE_TOKEN_PATH'],
    defaultLabel: 'in-cluster path',
    emptyIsUnset: true,
  }),
  kubeCaFile: setting('GATECAR_KUBE_CA_FILE', path, undefined, 'CA bundle to trust; re-read when it changes.', {
    aliases: ['KUBE_CA_CERT_PATH'],
    defaultLabel: 'in-cluster path',
    emptyIsUnset: true,
  }),
  kubeHeaders: setting(
    'GATECAR_KUBE_HEADERS',
    headerPairs,
    undefined,
    '`name=value` list added to what the API server is asked, such as `dapr-app-id=kube-proxy.proxy-system`. A value `@/path` ' +
      'is what that file holds, re-read when it changes: for secrets (`dapr-api-token=@/secrets/dapr/token`).',
    { defaultLabel: 'none' },
  ),
  tlsCertFile: setting(
    'GATECAR_TLS_CERT_FILE',
    path,
    undefined,
    'Certificate and its chain, PEM: TLS on the auth and gRPC listeners (the ops listener stays plain). This and the ' +
      'next two are followed: replaced files are taken within two seconds.',
    { defaultLabel: 'off', emptyIsUnset: true },
  ),
  tlsKeyFile: setting('GATECAR_TLS_KEY_FILE', path, undefined, 'Private key of the certificate, PEM, not encrypted.', {
    emptyIsUnset: true,
  }),
  tlsClientCaFile: setting(
    'GATECAR_TLS_CLIENT_CA_FILE',
    path,
    undefined,
    'CA bundle, PEM. With it, only clients with a certificate that it signed can connect (mTLS).',
    { defaultLabel: 'off', emptyIsUnset: true },
  ),
  shutdownDelayMs: setting(
    'GATECAR_SHUTDOWN_DELAY',
    duration('0', '5m'),
    '5s',
    'After SIGTERM: how long to keep serving, unready, before accepting no more.',
  ),
  shutdownTimeoutMs: setting(
    'GATECAR_SHUTDOWN_TIMEOUT',
    duration('0', '10m'),
    '15s',
    'After that: how long requests under way may take to finish.',
  ),
  logLevel: setting(
    'GATECAR_LOG_LEVEL',
    oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'info',
    'Least severe level that is logged.',
  ),
  audit: setting(
    'GATECAR_AUDIT',
    oneOf('off', 'denied', 'all'),
    'off',
    'Audit lines on standard output, one JSON object a decision (`audit.schema.json`): of each, or of those that are no yes.',
  ),
} as const satisfies Record<string, Setting<unknown>>;

type ValueOf<S> = S extends Setting<infer T, infer D> ? (undefined extends D ? T | undefined : T) : never;

/** The values of all settings. Durations are in milliseconds. */
export type Config = { readonly [K in keyof typeof SETTINGS]: ValueOf<(typeof SETTINGS)[K]> };

/** Returns the flag's name: `GATECAR_TOKEN_AUDIENCES` → `token-audiences`. */
export function flagName(setting: Pick<Setting<unknown>, 'name'>): string {
  return setting.name.slice('GATECAR_'.length).toLowerCase().replaceAll('_', '-');
}
