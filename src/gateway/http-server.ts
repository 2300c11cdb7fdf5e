import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { followHandshakes } from './handshake-failure.ts';
import { boundConnections, contextOptions, handshakeOptions, type ListenerOptions } from './listener.ts';

/** Larger than any gateway's own limit: Node's default of 16 KiB refuses what nginx lets through with three URL headers. */
const MAX_HEADER_BYTES = 64 * 1024;

/**
 * Longer than gateways keep an idle connection (Envoy: an hour), so that it is always they who close: a request sent
 * into our closing would fail.
 */
export const KEEP_ALIVE_MS = 61 * 60 * 1000;

/** How long a peer may take to send a request, and how often that is checked, in milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
const TIMEOUT_CHECK_MS = 1_000;

export interface HttpServerOptions extends ListenerOptions {
  readonly requestTimeoutMs?: number;
  readonly timeoutCheckMs?: number;
}

/** The server below the auth listener, over TLS or not, with all its limits. */
export function httpServer(handler: RequestListener, options: HttpServerOptions): Server {
  const { tls, handshakeTimeoutMs } = options;
  const { requestTimeoutMs = REQUEST_TIMEOUT_MS, timeoutCheckMs = TIMEOUT_CHECK_MS } = options;
  const http: ServerOptions = {
    maxHeaderSize: MAX_HEADER_BYTES,
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: timeoutCheckMs,
    // Not even where the process was told to: what gateways and we read differently is how requests are smuggled.
    insecureHTTPParser: false,
  };
  const server = tls ? secure(http, tls, handshakeTimeoutMs, handler) : createServer(http, handler);
  // Past its limit on their number, Node may leave headers out: a second credential, or that a body is to come.
  server.maxHeadersCount = 0;
  boundConnections(server, options);
  followHandshakes(server, options.onHandshakeFailure);
  return server;
}

function secure(
  http: ServerOptions,
  tls: NonNullable<ListenerOptions['tls']>,
  handshakeTimeoutMs: number | undefined,
  handler: RequestListener,
): Server {
  const https = createTlsServer(
    { ...http, ...handshakeOptions(tls, handshakeTimeoutMs), ...contextOptions(tls.material) },
    handler,
  );
  tls.onReplaced(material => https.setSecureContext(contextOptions(material)));
  // It is one in all but its type.
  return https as unknown as Server;
}
