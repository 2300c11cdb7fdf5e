import { bracketed } from '../system/bind-server.ts';
import { EndpointError, type EndpointSource, explicitEndpoint } from './endpoint.ts';

/**
 * The API server's address in the kubelet's environment: `KUBERNETES_SERVICE_HOST` and
 * `KUBERNETES_SERVICE_PORT`.
 */
export interface ClusterAddress {
  readonly host: string;
  readonly port: string | undefined;
}

/** Ports of the API server's former plain HTTP listener and of `kubectl proxy`. */
const PLAIN_PORTS = ['80', '8080', '8001'];

/**
 * Creates the endpoint source of a pod. The address comes from the environment, the credentials
 * from files that the kubelet updates. The result equals that of client-node's `loadFromCluster`.
 * Only kubeconfigs need that library, and loading it would cost each pod memory and start-up time.
 *
 * @throws {EndpointError} if the environment contains no valid address.
 */
export function inClusterEndpoint({ host, port }: ClusterAddress, tokenFile: string, caFile: string): EndpointSource {
  const scheme = PLAIN_PORTS.includes(String(port)) ? 'http' : 'https';
  const url = `${scheme}://${bracketed(host)}:${port}`;
  if (!URL.canParse(url)) throw new EndpointError('the environment names no API server');
  return explicitEndpoint({ url, tokenFile, caFile });
}
