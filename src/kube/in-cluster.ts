import { isIPv6 } from 'node:net';
import { EndpointError, type EndpointSource, explicitEndpoint } from './endpoint.ts';

/** What the kubelet's environment says of the API server: `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`. */
export interface ClusterAddress {
  readonly host: string;
  readonly port: string | undefined;
}

/** Ports of an API server's old plain listener, and of `kubectl proxy`. */
const PLAIN_PORTS = ['80', '8080', '8001'];

/**
 * The endpoint of a pod: address from the environment, credentials from files that the kubelet keeps fresh. It is what
 * client-node's `loadFromCluster` makes; that library, needed for kubeconfigs, costs each pod 24 MiB and a fifth of a second.
 *
 * @throws {EndpointError} where that is no address.
 */
export function inClusterEndpoint({ host, port }: ClusterAddress, tokenFile: string, caFile: string): EndpointSource {
  const scheme = PLAIN_PORTS.includes(String(port)) ? 'http' : 'https';
  const url = `${scheme}://${isIPv6(host) ? `[${host}]` : host}:${port}`;
  if (!URL.canParse(url)) throw new EndpointError('the environment names no API server');
  return explicitEndpoint({ url, tokenFile, caFile });
}
