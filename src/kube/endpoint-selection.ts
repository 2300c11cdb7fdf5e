import { join } from 'node:path';
import { type Config, IN_CLUSTER_CA_FILE, IN_CLUSTER_TOKEN_FILE } from '../config/schema.ts';
import type { TracingSettings } from '../config/tracing-settings.ts';
import { EndpointError, type EndpointSource, explicitEndpoint } from './endpoint.ts';
import { withExtraHeaders } from './extra-headers.ts';
import { type ClusterAddress, inClusterEndpoint } from './in-cluster.ts';
import { kubeConfigEndpoint } from './kubeconfig.ts';

/** Facts about where we run that are no settings. */
export interface RuntimeEnvironment {
  /** What the kubelet's environment names, in a pod. */
  readonly inCluster: ClusterAddress | undefined;
  /** For `~/.kube/config`. */
  readonly homeDirectory: string | undefined;
  /** Whether OpenTelemetry's own variables ask for spans, and which. */
  readonly tracing?: TracingSettings | undefined;
}

/**
 * An explicit address, else a named kubeconfig, else the pod's own credentials, else the user's kubeconfig; with the headers
 * that proxies on the way need.
 */
export async function createEndpointSource(config: Config, surroundings: RuntimeEnvironment): Promise<EndpointSource> {
  return withExtraHeaders(await selectEndpoint(config, surroundings), config.kubeHeaders ?? {});
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
    // A proxy over plain http adds its own credential, which ours would replace.
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

/** What the kubelet's environment says of the API server. @returns `undefined` outside of a cluster. */
export function inClusterAddress(env: Readonly<Record<string, string | undefined>>): ClusterAddress | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  return host === undefined ? undefined : { host, port: env['KUBERNETES_SERVICE_PORT'] };
}
