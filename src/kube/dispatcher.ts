import { Agent, type Dispatcher, ProxyAgent } from 'undici';
import { EndpointError, type KubeEndpoint, type KubeTls } from './endpoint.ts';

/** Largest answer that is read, in bytes; a TokenReview with hundreds of groups has some tens of thousands. */
const MAX_RESPONSE_BYTES = 1024 * 1024;

/** How long an idle connection is kept, in milliseconds; the API server closes its own after 90 s. */
const KEEP_ALIVE_MS = 60_000;

/** The connections to one endpoint. */
export interface KubeDispatcher {
  /** @throws {EndpointError} where the way to it is none that we know. */
  get(endpoint: KubeEndpoint): Dispatcher;
  close(): Promise<void>;
}

/** Holds one dispatcher, replaced when the endpoint's TLS material or proxy changes; the old one ends its work first. */
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

/** A TLS proxy is offered HTTP/1.1 only, like the API server. */
const HTTP1_ONLY = { allowH2: false };

function newDispatcher(tls: KubeTls, proxyUrl: string | undefined, maxConnections: number): Dispatcher {
  const common = {
    connections: maxConnections,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxResponseSize: MAX_RESPONSE_BYTES,
    // One connection for all would be left by nobody when its peer falls silent: a review that is cut off ends its stream alone. Nor
    // is HTTP/2 faster as long as no more reviews run at once than there may be connections.
    allowH2: false,
  };
  if (proxyUrl === undefined) return new Agent({ ...common, connect: tls });
  if (!/^https?:/.test(proxyUrl)) throw new EndpointError('kubeconfig: only an http or https proxy-url is supported');
  return new ProxyAgent({ ...common, uri: proxyUrl, requestTls: tls, proxyTls: HTTP1_ONLY });
}
