import { delimiter, join } from 'node:path';
import { type Config, IN_CLUSTER_CA_FILE, IN_CLUSTER_TOKEN_FILE } from '../config/schema.ts';
import type { TracingSettings } from '../config/tracing-settings.ts';
import { createKubeApiClient, type KubeApiClient } from './api-client.ts';
import { EndpointError, type EndpointSource, explicitEndpoint } from './endpoint.ts';
import { withExtraHeaders } from './extra-headers.ts';
import { type ClusterAddress, inClusterEndpoint } from './in-cluster.ts';
import { kubeConfigEndpoint } from './kubeconfig.ts';

/** Facts about the environment that are not settings. */
export interface RuntimeEnvironment {
  /** The API server's address from the kubelet's environment; `undefined` outside a pod. */
  readonly inCluster: ClusterAddress | undefined;
  /** The directory that contains `.kube/config`. */
  readonly homeDirectory: string | undefined;
  /**
   * Tracing settings from OpenTelemetry's own environment variables; `undefined` if they request no
   * spans.
   */
  readonly tracing?: TracingSettings | undefined;
}

/** Creates the client of the API server that the settings name. */
export function createApiClient(config: Config, environment: RuntimeEnvironment, version: string): KubeApiClient {
  return createKubeApiClient({
    source: () => createEndpointSource(config, environment),
    maxConnections: config.reviewMaxConcurrency,
    userAgent: `gatecar/${version}`,
  });
}

/** Where gatecar finds the API server. */
type ApiServerSource =
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'kubeconfig'; readonly files: readonly string[] }
  | { readonly kind: 'in-cluster'; readonly address: ClusterAddress }
  | { readonly kind: 'none' };

/**
 * Selects the source of the API server's address. The first available one is used, in this order:
 *
 * - An explicit address.
 * - A configured kubeconfig.
 * - The pod's own credentials, unless a kubeconfig context is configured.
 * - The user's kubeconfig.
 */
function selectSource(config: Config, { inCluster, homeDirectory }: RuntimeEnvironment): ApiServerSource {
  const { kubeApiUrl: url, kubeConfigFiles: files, kubeContext } = config;
  if (url !== undefined) return { kind: 'url', url };
  if (files !== undefined) return { kind: 'kubeconfig', files };
  if (inCluster !== undefined && kubeContext === undefined) return { kind: 'in-cluster', address: inCluster };
  if (homeDirectory === undefined) return { kind: 'none' };
  return { kind: 'kubeconfig', files: [join(homeDirectory, '.kube/config')] };
}

/**
 * Creates the endpoint of the selected API server, with the headers that proxies on the way need.
 *
 * @throws {EndpointError} if no API server is known.
 */
export async function createEndpointSource(config: Config, environment: RuntimeEnvironment): Promise<EndpointSource> {
  return withExtraHeaders(createEndpoint(config, environment), config.kubeHeaders ?? {});
}

function createEndpoint(config: Config, environment: RuntimeEnvironment): EndpointSource {
  const { kubeContext: context, kubeTokenFile: tokenFile, kubeCaFile: caFile } = config;
  const source = selectSource(config, environment);
  switch (source.kind) {
    case 'url': {
      // A plain HTTP proxy adds its own credential, which gatecar's would replace.
      const own = source.url.startsWith('https:') && environment.inCluster !== undefined;
      return explicitEndpoint({
        url: source.url,
        tokenFile: tokenFile ?? (own ? IN_CLUSTER_TOKEN_FILE : undefined),
        caFile: caFile ?? (own ? IN_CLUSTER_CA_FILE : undefined),
      });
    }
    case 'kubeconfig':
      return kubeConfigEndpoint({ files: source.files, context, tokenFile, caFile });
    case 'in-cluster':
      return inClusterEndpoint(source.address, tokenFile ?? IN_CLUSTER_TOKEN_FILE, caFile ?? IN_CLUSTER_CA_FILE);
    case 'none':
      throw new EndpointError('no API server is known: set GATECAR_KUBECONFIG or GATECAR_KUBE_API_URL');
  }
}

/**
 * Describes the selected API server, for the log line at start; `undefined` in format-only mode,
 * which uses none.
 */
export function describeApiServer(config: Config, environment: RuntimeEnvironment): string | undefined {
  if (config.mode === 'format-only') return undefined;
  const source = selectSource(config, environment);
  if (source.kind === 'url') return source.url;
  return source.kind === 'kubeconfig' ? `kubeconfig ${source.files.join(delimiter)}` : source.kind;
}

/**
 * Reads the API server's address from the kubelet's environment. @returns `undefined` outside a
 * cluster.
 */
export function inClusterAddress(env: Readonly<Record<string, string | undefined>>): ClusterAddress | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  return host === undefined ? undefined : { host, port: env['KUBERNETES_SERVICE_PORT'] };
}
