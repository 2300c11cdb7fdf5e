import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { Agent, type Dispatcher, ProxyAgent } from 'undici';
import { KUBE_KEEP_ALIVE_MS, KUBE_MAX_RESPONSE_BYTES } from '../limits/constants.ts';
import { EndpointError, type KubeEndpoint, type KubeTls } from './endpoint.ts';

/** Options of `tls.connect`. */
export interface TlsOptions extends KubeTls {
  readonly checkServerIdentity?: (host: string, certificate: PeerCertificate) => Error | undefined;
}

/** The connections to one endpoint. */
export interface KubeDispatcher {
  /** Returns the dispatcher. @throws {EndpointError} if the proxy URL has an unsupported scheme. */
  get(endpoint: KubeEndpoint): Dispatcher;
  close(): Promise<void>;
}

/**
 * Holds one dispatcher, which is replaced when the endpoint's TLS material or proxy changes. The
 * old dispatcher finishes its requests first.
 */
export function createDispatcher(maxConnections: number): KubeDispatcher {
  let held: { tls: KubeTls; proxyUrl: string | undefined; dispatcher: Dispatcher } | undefined;
  return {
    get({ tls, proxyUrl }) {
      if (held?.tls === tls && held.proxyUrl === proxyUrl) return held.dispatcher;
      const dispatcher = newDispatcher(tls, proxyUrl, maxConnections);
      held?.dispatcher.close().catch(() => {});
      held = { tls, proxyUrl, dispatcher };
      return dispatcher;
    },
    async close() {
      await held?.dispatcher.destroy();
    },
  };
}

/** Offers a TLS proxy only HTTP/1.1, like the API server. */
const HTTP1_ONLY = { allowH2: false };

/**
 * Returns the options for a TLS connection to the API server. SNI cannot name an IP address (RFC
 * 6066 §3). As in kubectl, an IP as TLS server name is only compared with the certificate.
 */
export function tlsOptions(tls: KubeTls): TlsOptions {
  const { servername, ...others } = tls;
  if (servername === undefined || isIP(servername) === 0) return tls;
  return { ...others, checkServerIdentity: (_host, certificate) => checkServerIdentity(servername, certificate) };
}

function newDispatcher(tls: KubeTls, proxyUrl: string | undefined, maxConnections: number): Dispatcher {
  const common = {
    connections: maxConnections,
    pipelining: 1,
    keepAliveTimeout: KUBE_KEEP_ALIVE_MS,
    maxResponseSize: KUBE_MAX_RESPONSE_BYTES,
    // HTTP/1.1 only: over HTTP/2, all reviews would share one connection. If the peer falls silent,
    // a timed-out review only resets its stream, and the dead connection stays in use. HTTP/2 is
    // also no faster while each concurrent review can have its own connection.
    allowH2: false,
  };
  if (proxyUrl === undefined) return new Agent({ ...common, connect: tlsOptions(tls) });
  if (!/^https?:/.test(proxyUrl)) throw new EndpointError('kubeconfig: only an http or https proxy-url is supported');
  return new ProxyAgent({ ...common, uri: proxyUrl, requestTls: tlsOptions(tls), proxyTls: HTTP1_ONLY });
}
