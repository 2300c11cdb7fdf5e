import { address, baseUrl, headerName, headerPairs, headerPrefix, peers, socketMode } from './network-types.ts';
import {
  audiences,
  boolean,
  bytes,
  duration,
  namespaces,
  nonControlText,
  oneOf,
  path,
  paths,
  rate,
  type SettingType,
  serviceAccounts,
  statusOneOf,
  wholeNumber,
  withFormerValues,
} from './setting-types.ts';

/** One setting: the single source of its names, type, default, limits and help. */
export interface Setting<T, D extends string | undefined = string | undefined> {
  /** The environment variable. `flagName` derives the flag from it. */
  readonly name: `GATECAR_${string}`;
  /**
   * Other accepted environment variables for the same setting. One that begins with `GATECAR_` is a
   * former name. Its flag is accepted as well.
   */
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
  opsListen: setting('GATECAR_OPS_LISTEN', address, ':9081', 'Ops listener: probes, `/metrics`, `/statusz`, `/flagz`.'),
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
    withFormerValues(oneOf('tokenreview', 'format-only'), { basic: 'format-only' }),
    'tokenreview',
    '`tokenreview` validates each token with the API server. `format-only` (formerly `basic`) checks only that a ' +
      'well-formed token is present. It verifies nothing and needs a loopback auth listener.',
  ),
  allowInsecureBasic: setting(
    'GATECAR_ALLOW_INSECURE_BASIC',
    boolean,
    'false',
    'Allows `format-only` mode on addresses other than loopback.',
  ),
  tokenAudiences: setting(
    'GATECAR_TOKEN_AUDIENCES',
    audiences,
    'bindcar',
    'Accepted audiences. A token must have one of them. If set but empty, only tokens for the API server itself pass, ' +
      'including legacy Secret tokens.',
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
    'ServiceAccounts that pass, as `system:serviceaccount:<namespace>:<name>`. If both lists are set, a caller must be in ' +
      'both. A user that is not a ServiceAccount is in neither.',
    { aliases: ['BIND_ALLOWED_SERVICE_ACCOUNTS'], defaultLabel: 'all' },
  ),
  policyDeniedStatus: setting(
    'GATECAR_POLICY_DENIED_STATUS',
    statusOneOf(401, 403),
    '401',
    'Status if the token is valid but its ServiceAccount is not allowed.',
  ),
  unavailableStatus: setting(
    'GATECAR_UNAVAILABLE_STATUS',
    statusOneOf(401, 403, 503),
    '503',
    'Status if gatecar cannot decide, because the API server is unreachable or gatecar is overloaded. nginx turns a 503 ' +
      'into a 500 for its client.',
  ),
  errorDetail: setting(
    'GATECAR_ERROR_DETAIL',
    oneOf('full', 'generic'),
    'full',
    '`generic` returns `Unauthorized`, `Forbidden` or `Service Unavailable` without a reason code.',
  ),
  identityHeaderPrefix: setting(
    'GATECAR_IDENTITY_HEADER_PREFIX',
    headerPrefix,
    'X-Auth-Request-',
    'Prefix of the identity header names.',
  ),
  cacheTtlMs: setting(
    'GATECAR_CACHE_TTL',
    duration('0', '10m'),
    '10s',
    "How long an `authenticated` result is cached, never past the token's `exp`. 0 disables it. Concurrent requests with " +
      'one token share a review in any case.',
  ),
  cacheNegativeTtlMs: setting(
    'GATECAR_CACHE_NEGATIVE_TTL',
    duration('0', '10m'),
    '2s',
    'How long a `rejected` result is cached. 0 disables it. Outages are never cached.',
  ),
  cacheMaxEntries: setting(
    'GATECAR_CACHE_MAX_ENTRIES',
    wholeNumber(1, 10_000_000),
    '10000',
    'Maximum number of cached results, in each of the two stores (authenticated, rejected).',
  ),
  reviewTimeoutMs: setting(
    'GATECAR_REVIEW_TIMEOUT',
    duration('10ms', '1m'),
    '3s',
    'Time limit of one review, including the wait for a slot and the connection.',
  ),
  reviewMaxConcurrency: setting(
    'GATECAR_REVIEW_MAX_CONCURRENCY',
    wholeNumber(1, 10_000),
    '32',
    'Maximum number of concurrent reviews. Also the maximum number of connections to the API server; one more is used ' +
      'for the JWKS.',
  ),
  reviewMaxQueue: setting(
    'GATECAR_REVIEW_MAX_QUEUE',
    wholeNumber(0, 1_000_000),
    '512',
    'Maximum number of reviews that wait for a slot. More are rejected immediately as `overloaded`.',
  ),
  maxConnections: setting(
    'GATECAR_MAX_CONNECTIONS',
    wholeNumber(1, 1_000_000),
    undefined,
    'Maximum number of open connections, on the auth and on the gRPC listener each. If unset, the limit follows from ' +
      '`GATECAR_MEMORY_LIMIT`, for all listeners together. At the limit, gatecar closes the connection that has waited ' +
      'longest for its client, or rejects the new one.',
    { defaultLabel: 'by memory' },
  ),
  memoryLimit: setting(
    'GATECAR_MEMORY_LIMIT',
    bytes('64Mi', '64Gi'),
    undefined,
    'Memory from which gatecar derives its limits on connections and waiting requests, such as `256Mi`. If unset, the ' +
      "limit of the container (cgroup), or the machine's memory.",
    { defaultLabel: 'detected' },
  ),
  cacheRefreshAhead: setting(
    'GATECAR_CACHE_REFRESH_AHEAD',
    boolean,
    'true',
    'Refreshes cached results in use before they expire, in the background.',
    { aliases: ['GATECAR_REFRESH_AHEAD'] },
  ),
  cacheStaleIfErrorMs: setting(
    'GATECAR_CACHE_STALE_IF_ERROR',
    duration('0', '60m'),
    '0s',
    'How long past its TTL a cached `authenticated` result may be served while the API server is unreachable ' +
      '(stale-if-error, RFC 5861). The response is marked `X-Gatecar-Stale: <seconds>`. 0 disables it.',
    { aliases: ['GATECAR_GRACE'] },
  ),
  jwtPrecheck: setting(
    'GATECAR_JWT_PRECHECK',
    oneOf('signature', 'claims', 'off'),
    'signature',
    "What gatecar checks before a review, for JWTs of the cluster's own issuer. `claims`: `exp`, `nbf` and `aud`. " +
      '`signature`: also the signature, by the cluster JWKS. The check can only reject a token or choose its priority. ' +
      'Only the API server can accept a token.',
    { aliases: ['GATECAR_LOCAL_CHECKS'] },
  ),
  opaqueTokens: setting(
    'GATECAR_OPAQUE_TOKENS',
    withFormerValues(oneOf('review', 'reject'), { ask: 'review', refuse: 'reject' }),
    'review',
    'Tokens that are not JWTs: `review` (formerly `ask`) sends them to the API server, `reject` (formerly `refuse`) ' +
      'rejects them without a review.',
  ),
  trustedProxies: setting(
    'GATECAR_TRUSTED_PROXIES',
    peers,
    undefined,
    'Addresses, CIDRs and `unix` (connections on a Unix socket) of the trusted proxies. gatecar uses their forwarded ' +
      'headers for logs and the client failure limit: client address, original method and URI, request id, trace. gRPC ' +
      'connections from other addresses are read frame by frame, which is slower.',
    { aliases: ['GATECAR_TRUSTED_PEERS'], defaultLabel: 'none' },
  ),
  clientIpHeader: setting(
    'GATECAR_CLIENT_IP_HEADER',
    headerName,
    undefined,
    "Header in which a trusted proxy sends the client's address, such as `X-Real-IP` or `X-Forwarded-For` (the rightmost " +
      'address that is not a trusted proxy).',
    { defaultLabel: 'none' },
  ),
  clientFailureLimit: setting(
    'GATECAR_CLIENT_FAILURE_LIMIT',
    rate,
    undefined,
    'Rejections per client address, such as `20/1m`. Past them, uncached tokens from that address are rejected without ' +
      'a review (`too_many_failures`). Cached tokens pass. The address (IPv6: its /64) comes from the trusted proxy: needs ' +
      '`GATECAR_TRUSTED_PROXIES`, and `GATECAR_CLIENT_IP_HEADER` or `GATECAR_GRPC_LISTEN`.',
    { aliases: ['GATECAR_FAILURE_LIMIT'], defaultLabel: 'off' },
  ),
  kubeConfigFiles: setting(
    'GATECAR_KUBECONFIG',
    paths,
    undefined,
    'kubeconfig files. If unset, the pod’s own ServiceAccount, else `~/.kube/config`. gatecar never guesses `localhost`.',
    { aliases: ['KUBECONFIG'], emptyIsUnset: true },
  ),
  kubeContext: setting(
    'GATECAR_KUBE_CONTEXT',
    nonControlText,
    undefined,
    "Context to use instead of the kubeconfig's current one.",
    {
      emptyIsUnset: true,
    },
  ),
  kubeApiUrl: setting(
    'GATECAR_KUBE_API_URL',
    baseUrl,
    undefined,
    'Base URL of the API server or of a proxy to it. A path prefix and plain `http` are allowed. Over `http`, gatecar ' +
      'sends its credential only if the token file is set too.',
    { aliases: ['KUBE_API_SERVER'] },
  ),
  kubeTokenFile: setting('GATECAR_KUBE_TOKEN_FILE', path, undefined, "gatecar's own token. Re-read when it changes.", {
    aliases: ['KUBE_TOKEN_PATH'],
    defaultLabel: 'in-cluster path',
    emptyIsUnset: true,
  }),
  kubeCaFile: setting(
    'GATECAR_KUBE_CA_FILE',
    path,
    undefined,
    'CA bundle for the API server. Re-read when it changes.',
    {
      aliases: ['KUBE_CA_CERT_PATH'],
      defaultLabel: 'in-cluster path',
      emptyIsUnset: true,
    },
  ),
  kubeHeaders: setting(
    'GATECAR_KUBE_HEADERS',
    headerPairs,
    undefined,
    'List of `name=value` headers added to requests to the API server, such as `dapr-app-id=kube-proxy.proxy-system`. ' +
      'A value `@/path` is read from that file and re-read when it changes, for secrets ' +
      '(`dapr-api-token=@/secrets/dapr/token`).',
    { defaultLabel: 'none' },
  ),
  tlsCertFile: setting(
    'GATECAR_TLS_CERT_FILE',
    path,
    undefined,
    'Certificate and its chain, PEM. Enables TLS on the auth and gRPC listeners; the ops listener stays plain. gatecar ' +
      'loads replaced certificate, key and client CA files within two seconds.',
    { defaultLabel: 'off', emptyIsUnset: true },
  ),
  tlsKeyFile: setting('GATECAR_TLS_KEY_FILE', path, undefined, 'Private key of the certificate, PEM, not encrypted.', {
    emptyIsUnset: true,
  }),
  tlsClientCaFile: setting(
    'GATECAR_TLS_CLIENT_CA_FILE',
    path,
    undefined,
    'CA bundle, PEM. If set, only clients with a certificate from this CA can connect (mTLS).',
    { defaultLabel: 'off', emptyIsUnset: true },
  ),
  shutdownDelayMs: setting(
    'GATECAR_SHUTDOWN_DELAY',
    duration('0', '5m'),
    '5s',
    'How long gatecar keeps serving after SIGTERM, unready, before it closes its listeners.',
  ),
  shutdownTimeoutMs: setting(
    'GATECAR_SHUTDOWN_TIMEOUT',
    duration('0', '10m'),
    '15s',
    'After the delay, how long requests in flight may take to finish.',
  ),
  logLevel: setting(
    'GATECAR_LOG_LEVEL',
    oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'info',
    'Least severe level that is logged.',
  ),
  auditLog: setting(
    'GATECAR_AUDIT_LOG',
    oneOf('off', 'denied', 'all'),
    'off',
    'Audit lines on standard output, one JSON object per decision (`audit.schema.json`): for `all` decisions, or for those ' +
      'other than allow (`denied`).',
    { aliases: ['GATECAR_AUDIT'] },
  ),
} as const satisfies Record<string, Setting<unknown>>;

type ValueOf<S> = S extends Setting<infer T, infer D> ? (undefined extends D ? T | undefined : T) : never;

/** The values of all settings. Durations are in milliseconds. */
export type Config = { readonly [K in keyof typeof SETTINGS]: ValueOf<(typeof SETTINGS)[K]> };
