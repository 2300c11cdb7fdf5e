import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Budget } from '../../limits/budget.ts';
import { followHandshakes } from '../../tls/handshake-failure.ts';
import { contextOptions, handshakeOptions, type ListenerOptions } from '../../tls/listener-options.ts';
import {
  type ConnectionIntake,
  type ConnectionIntakeOptions,
  connectionIntake,
  intercept,
} from '../connection-intake.ts';
import { TurnQueue } from '../turn-queue.ts';
import { HttpConnection } from './http-connection.ts';
import { declaresBody } from './response-writer.ts';

/** Larger than any gateway's own limit: Node's default of 16 KiB refuses what nginx lets through with three URL headers. */
const MAX_HEADER_BYTES = 64 * 1024;

/**
 * Longer than gateways keep an idle connection (Envoy: an hour), so that it is always they who close: a request sent
 * into our closing would fail.
 */
const KEEP_ALIVE_MS = 61 * 60 * 1000;

/** How many requests that came behind others on their connections are read in one turn of the event loop. */
const REQUESTS_PER_TURN = 16;

/** How long a peer may take to send a request, and how often that is checked, in milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
const TIMEOUT_CHECK_MS = 1_000;

export interface HttpServerOptions extends ListenerOptions, Omit<ConnectionIntakeOptions, 'protocol'> {
  /** For heads that are not complete and requests that have not been read, of all listeners together. */
  readonly requests: Budget;
  readonly maxHeaderBytes?: number;
  readonly keepAliveMs?: number;
  readonly requestTimeoutMs?: number;
  readonly timeoutCheckMs?: number;
  readonly now?: () => number;
  /** The status of answers that a client without a valid credential does not get. */
  readonly allowedStatus?: number;
}

/** An HTTP server, over TLS or not, with all its limits. */
export interface HttpServer {
  readonly server: Server;
  readonly connections: ReadonlySet<HttpConnection>;
  readonly intake: ConnectionIntake;
}

/** The connection of a request that came to an {@link HttpServer}. */
export function connectionOf({ socket }: { readonly socket: unknown }): HttpConnection {
  return socket as HttpConnection;
}

/** Builds the server below the auth and the ops listener. */
export function httpServer(handler: RequestListener, options: HttpServerOptions): HttpServer {
  const { tls, handshakeTimeoutMs, pool, requests, now = () => performance.now() } = options;
  const { requestTimeoutMs = REQUEST_TIMEOUT_MS, timeoutCheckMs = TIMEOUT_CHECK_MS } = options;
  const { maxHeaderBytes = MAX_HEADER_BYTES, keepAliveMs = KEEP_ALIVE_MS } = options;
  const http: ServerOptions = {
    maxHeaderSize: maxHeaderBytes,
    keepAliveTimeout: keepAliveMs,
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: timeoutCheckMs,
    // Not even where the process was told to: what gateways and we read differently is how requests are smuggled.
    insecureHTTPParser: false,
  };
  const serve: RequestListener = (request, response) => {
    connectionOf(request).begin(request, response, declaresBody(request));
    handler(request, response);
  };
  const server = tls ? secure(http, tls, handshakeTimeoutMs, serve) : createServer(http, serve);
  // Past its limit on their number, Node may leave headers out: a second credential, or that a body is to come.
  server.maxHeadersCount = 0;
  const connections = new Set<HttpConnection>();
  const turns = new TurnQueue(REQUESTS_PER_TURN);
  intercept(server, tls ? 'secureConnection' : 'connection', (socket, pass) => {
    const pooled = intake.pooledOf(socket);
    const connection = new HttpConnection(socket, {
      ...{ pool, pooled, requests, turns, now },
      ...{ maxHeadBytes: maxHeaderBytes, allowedStatus: options.allowedStatus },
    });
    connections.add(connection);
    connection.once('close', () => connections.delete(connection));
    pass(connection);
  });
  // After the above, so that it comes before it.
  const intake = connectionIntake(server, tls !== undefined, { ...options, protocol: 'http' });
  followHandshakes(server, options.onHandshakeFailure);
  closeIdle(server, connections, keepAliveMs, now);
  return { server, connections, intake };
}

/** Node's own timer needs a socket. @param keepAliveMs how long a connection may be idle. */
function closeIdle(
  server: Server,
  connections: ReadonlySet<HttpConnection>,
  keepAliveMs: number,
  now: () => number,
): void {
  const timer = setInterval(() => {
    for (const connection of connections) if (connection.idleSinceMs <= now() - keepAliveMs) connection.destroySoon();
  }, keepAliveMs / 10).unref();
  server.once('close', () => clearInterval(timer));
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
