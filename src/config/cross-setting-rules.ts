import { BlockList, isIP } from 'node:net';
import type { Address } from './network-types.ts';
import type { Config } from './schema.ts';

/** A rule about several settings together. */
export interface CrossRule {
  /** The settings that the rule reads. It is skipped if one of them is invalid by itself. */
  readonly about: readonly (keyof Config)[];
  /** @returns the error message, or `undefined` if the settings follow the rule. */
  readonly fault: (config: Config) => string | undefined;
}

const quote = (text: string): string => JSON.stringify(text);

/** All rules about combinations of settings. */
export const CROSS_RULES = {
  'format-only-mode-is-local': {
    about: ['mode', 'allowInsecureBasic', 'listen'],
    fault: config => formatOnlyFault(config, 'GATECAR_LISTEN', config.listen),
  },
  'format-only-mode-grpc-is-local': {
    about: ['mode', 'allowInsecureBasic', 'grpcListen'],
    fault: config => formatOnlyFault(config, 'GATECAR_GRPC_LISTEN', config.grpcListen),
  },
  'listeners-differ': {
    about: ['listen', 'opsListen'],
    fault: ({ listen, opsListen }) =>
      areSame(listen, opsListen)
        ? `GATECAR_LISTEN and GATECAR_OPS_LISTEN must differ; got ${quote(listen.text)} for both`
        : undefined,
  },
  'grpc-listener-differs': {
    about: ['listen', 'opsListen', 'grpcListen'],
    fault: ({ listen, opsListen, grpcListen }) =>
      grpcListen !== undefined && (areSame(grpcListen, listen) || areSame(grpcListen, opsListen))
        ? 'GATECAR_GRPC_LISTEN must differ from GATECAR_LISTEN and GATECAR_OPS_LISTEN; ' +
          `got ${quote(grpcListen.text)} twice`
        : undefined,
  },
  'client-ip-header-needs-trusted-proxies': {
    about: ['clientIpHeader', 'trustedProxies'],
    fault: ({ clientIpHeader, trustedProxies }) =>
      clientIpHeader !== undefined && trustedProxies === undefined
        ? 'GATECAR_CLIENT_IP_HEADER needs GATECAR_TRUSTED_PROXIES: a forwarded header is used only from a trusted proxy; ' +
          `got ${quote(clientIpHeader)}`
        : undefined,
  },
  'failure-limit-needs-client-addresses': {
    about: ['clientFailureLimit', 'trustedProxies', 'clientIpHeader', 'grpcListen'],
    // Over gRPC, Envoy sends the client address in the request itself.
    fault: ({ clientFailureLimit, trustedProxies, clientIpHeader, grpcListen }) =>
      clientFailureLimit !== undefined && (trustedProxies === undefined || (clientIpHeader ?? grpcListen) === undefined)
        ? 'GATECAR_CLIENT_FAILURE_LIMIT needs GATECAR_TRUSTED_PROXIES, and GATECAR_CLIENT_IP_HEADER or GATECAR_GRPC_LISTEN: it ' +
          `counts by the client address that a trusted proxy sends; got ${clientFailureLimit.count} in ${clientFailureLimit.windowMs} ms`
        : undefined,
  },
  'tls-needs-certificate-and-key': {
    about: ['tlsCertFile', 'tlsKeyFile'],
    fault: ({ tlsCertFile, tlsKeyFile }) =>
      (tlsCertFile === undefined) !== (tlsKeyFile === undefined)
        ? 'GATECAR_TLS_CERT_FILE and GATECAR_TLS_KEY_FILE must be set together; ' +
          `got only ${quote(String(tlsCertFile ?? tlsKeyFile))}`
        : undefined,
  },
  'client-ca-needs-certificate': {
    about: ['tlsCertFile', 'tlsClientCaFile'],
    fault: ({ tlsCertFile, tlsClientCaFile }) =>
      tlsClientCaFile !== undefined && tlsCertFile === undefined
        ? 'GATECAR_TLS_CLIENT_CA_FILE needs GATECAR_TLS_CERT_FILE: without TLS no client shows a certificate; ' +
          `got ${quote(tlsClientCaFile)}`
        : undefined,
  },
  'stale-if-error-needs-a-ttl': {
    about: ['cacheStaleIfErrorMs', 'cacheTtlMs'],
    fault: ({ cacheStaleIfErrorMs, cacheTtlMs }) =>
      cacheStaleIfErrorMs > 0 && cacheTtlMs === 0
        ? 'GATECAR_CACHE_STALE_IF_ERROR needs GATECAR_CACHE_TTL above 0, since a result that is not cached cannot be served later; got ' +
          `GATECAR_CACHE_STALE_IF_ERROR of ${cacheStaleIfErrorMs} ms`
        : undefined,
  },
  'context-needs-kubeconfig': {
    about: ['kubeApiUrl', 'kubeContext'],
    fault: ({ kubeApiUrl, kubeContext }) =>
      kubeApiUrl !== undefined && kubeContext !== undefined
        ? 'GATECAR_KUBE_API_URL and GATECAR_KUBE_CONTEXT must not both be set, since a context belongs to a kubeconfig; ' +
          `got ${quote(kubeApiUrl)} and ${quote(kubeContext)}`
        : undefined,
  },
} as const satisfies Record<string, CrossRule>;

/**
 * Returns the faults in combinations of settings.
 *
 * @param faulty the settings that are invalid by themselves and have no value in `config`.
 */
export function crossFaults(config: Config, faulty: ReadonlySet<string>): string[] {
  return Object.values<CrossRule>(CROSS_RULES)
    .filter(({ about }) => !about.some(key => faulty.has(key)))
    .flatMap(({ fault }) => fault(config) ?? []);
}

/** Returns warnings about settings that are valid but risky or without effect. */
export function warnings(config: Config): string[] {
  const found: string[] = [];
  if (config.mode === 'format-only') {
    found.push('format-only mode: tokens are NOT verified; any well-formed token passes');
    if (config.allowedNamespaces || config.allowedServiceAccounts) {
      found.push('format-only mode knows no identity: the allowlists are not applied');
    }
    if (config.clientFailureLimit)
      found.push('format-only mode rejects no token: GATECAR_CLIENT_FAILURE_LIMIT has no effect');
    return found;
  }
  if (config.tokenAudiences.length === 0) {
    found.push('GATECAR_TOKEN_AUDIENCES is empty: tokens for the API server itself pass, whatever their purpose');
  }
  const url = config.kubeApiUrl === undefined ? undefined : new URL(config.kubeApiUrl);
  if (url?.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, ''))) {
    found.push('GATECAR_KUBE_API_URL is plain http to another host: tokens travel unencrypted');
  }
  return found;
}

function formatOnlyFault(
  { mode, allowInsecureBasic }: Config,
  setting: string,
  listen: Address | undefined,
): string | undefined {
  return mode === 'format-only' && !allowInsecureBasic && listen !== undefined && !isLocal(listen)
    ? `GATECAR_MODE=format-only verifies no token: ${setting} must be a loopback address or a Unix socket, or ` +
        `GATECAR_ALLOW_INSECURE_BASIC must be true; got ${quote(listen.text)}`
    : undefined;
}

/** Whether two addresses collide. With port 0 the system chooses a different port each time. */
function areSame(one: Address, other: Address): boolean {
  return one.text === other.text && !/:0$/.test(one.text);
}

function isLocal(address: Address): boolean {
  return address.kind === 'unix' || (address.host !== undefined && isLoopback(address.host));
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

function isLoopback(host: string): boolean {
  const version = isIP(host);
  if (version === 0) return host === 'localhost';
  return LOOPBACK.check(host, version === 6 ? 'ipv6' : 'ipv4');
}
