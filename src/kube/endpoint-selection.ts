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

/**
 * Selects the API server's endpoint and adds the headers that proxies on the way need. The first
 * available source is used, in this order:
 *
 * - An explicit address.
 * - A configured kubeconfig.
 * - The pod's own credentials, unless a kubeconfig context is configured.
 * - The user's kubeconfig.
 */
export async function createEndpointSource(config: Config, environment: RuntimeEnvironment): Promise<EndpointSource> {
  return withExtraHeaders(await selectEndpoint(config, environment), config.kubeHeaders ?? {});
}

async function selectEndpoint(
  config: Config,
  { inCluster, homeDirectory }: RuntimeEnvironment,
): Promise<EndpointSource> {
  const {
    kubeApiUrl: url,
    kubeConfigFiles,
    kubeContext: context,
    kubeTokenFile: tokenFile,
    kubeCaFile: caFile,
  } = config;
  if (url !== undefined) {
    // A plain HTTP proxy adds its own credential, which gatecar's would replace.
    const own = url.startsWith('https:') && inCluster !== undefined;
    return explicitEndpoint({
      url,
      tokenFile: tokenFile ?? (own ? IN_CLUSTER_TOKEN_FILE : undefined),
      caFile: caFile ?? (own ? IN_CLUSTER_CA_FILE : undefined),
    });
  }
  if (kubeConfigFiles !== undefined) return kubeConfigEndpoint({ files: kubeConfigFiles, context, tokenFile, caFile });
  if (inCluster !== undefined && context === undefined) {
    return inClusterEndpoint(inCluster, tokenFile ?? IN_CLUSTER_TOKEN_FILE, caFile ?? IN_CLUSTER_CA_FILE);
  }
  if (homeDirectory === undefined) {
    throw new EndpointError('no API server is known: set GATECAR_KUBECONFIG or GATECAR_KUBE_API_URL');
  }
  return kubeConfigEndpoint({ files: [join(homeDirectory, '.kube/config')], context, tokenFile, caFile });
}

/**
 * Describes the source that {@link createEndpointSource} uses, for the log line at start;
 * `undefined` in format-only mode, which uses none.
 */
export function describeApiServer(
  config: Config,
  { inCluster, homeDirectory }: RuntimeEnvironment,
): string | undefined {
  const { mode, kubeApiUrl, kubeConfigFiles, kubeContext } = config;
  if (mode === 'format-only') return undefined;
  if (kubeApiUrl !== undefined) return kubeApiUrl;
  if (kubeConfigFiles !== undefined) return `kubeconfig ${kubeConfigFiles.join(delimiter)}`;
  if (inCluster !== undefined && kubeContext === undefined) return 'in-cluster';
  return homeDirectory === undefined ? 'none' : `kubeconfig ${join(homeDirectory, '.kube/config')}`;
}

/**
 * Reads the API server's address from the kubelet's environment. @returns `undefined` outside a
 * cluster.
 */
export function inClusterAddress(env: Readonly<Record<string, string | undefined>>): ClusterAddress | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  return host === undefined ? undefined : { host, port: env['KUBERNETES_SERVICE_PORT'] };
}
