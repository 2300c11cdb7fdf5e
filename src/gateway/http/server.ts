import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Budget } from '../../limits/budget.ts';
import {
  HTTP_KEEP_ALIVE_MS,
  HTTP_REQUEST_TIMEOUT_MS,
  HTTP_REQUESTS_PER_TURN,
  HTTP_TIMEOUT_CHECK_MS,
  MAX_HTTP_HEADER_BYTES,
} from '../../limits/constants.ts';
import { followHandshakes } from '../../tls/handshake-failure.ts';
import { contextOptions, handshakeOptions, type ListenerOptions } from '../../tls/listener-options.ts';
import {
  type ConnectionIntake,
  type ConnectionIntakeOptions,
  connectionIntake,
  intercept,
} from '../connection-intake.ts';
import { TurnQueue } from '../turn-queue.ts';
import { WriteBatch } from '../write-batch.ts';
import { HttpConnection } from './http-connection.ts';
import { framingOf } from './response-writer.ts';

export interface HttpServerOptions extends ListenerOptions, Omit<ConnectionIntakeOptions, 'protocol'> {
  /**
   * Budget for incomplete heads and requests that have not been parsed, shared by all listeners.
   */
  readonly requests: Budget;
  readonly maxHeaderBytes?: number;
  readonly keepAliveMs?: number;
  readonly requestTimeoutMs?: number;
  readonly timeoutCheckMs?: number;
  readonly now?: () => number;
  /** The response status that a client without a valid credential never gets. */
  readonly allowedStatus?: number;
}

/** An HTTP server, with or without TLS, that enforces all limits. */
export interface HttpServer {
  readonly server: Server;
  readonly connections: ReadonlySet<HttpConnection>;
  readonly intake: ConnectionIntake;
  /** Sends the responses that wait for the end of the event-loop iteration. */
  sendWaiting(): void;
}

/** Returns the connection of a request that an {@link HttpServer} received. */
export function connectionOf({ socket }: { readonly socket: unknown }): HttpConnection {
  return socket as HttpConnection;
}

/** Creates the server for the auth listener or the ops listener. */
export function httpServer(handler: RequestListener, options: HttpServerOptions): HttpServer {
  const { tls, handshakeTimeoutMs, pool, requests, now = () => performance.now() } = options;
  const { requestTimeoutMs = HTTP_REQUEST_TIMEOUT_MS, timeoutCheckMs = HTTP_TIMEOUT_CHECK_MS } = options;
  const { maxHeaderBytes = MAX_HTTP_HEADER_BYTES, keepAliveMs = HTTP_KEEP_ALIVE_MS } = options;
  const http: ServerOptions = {
    maxHeaderSize: maxHeaderBytes,
    keepAliveTimeout: keepAliveMs,
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: timeoutCheckMs,
    // Overrides Node's `--insecure-http-parser` flag. Request smuggling exploits differences
    // between the parsers of the gateway and of gatecar.
    insecureHTTPParser: false,
  };
  const serve: RequestListener = (request, response) => {
    const { declaresBody, repeatsHost } = framingOf(request);
    connectionOf(request).begin(request, response, declaresBody);
    if (repeatsHost) response.writeHead(400, ['Connection', 'close', 'Content-Length', '0']).end();
    else handler(request, response);
  };
  const server = tls ? secure(http, tls, handshakeTimeoutMs, serve) : createServer(http, serve);
  // Disables the limit on the number of headers. Above a limit, Node drops headers, for example a
  // second credential or the declaration of a body.
  server.maxHeadersCount = 0;
  const connections = new Set<HttpConnection>();
  const turns = new TurnQueue(HTTP_REQUESTS_PER_TURN);
  const writes = new WriteBatch();
  intercept(server, tls ? 'secureConnection' : 'connection', (socket, pass) => {
    const pooled = intake.pooledOf(socket);
    const connection = new HttpConnection(socket, {
      pool,
      pooled,
      requests,
      turns,
      writes,
      now,
      maxHeadBytes: maxHeaderBytes,
      allowedStatus: options.allowedStatus,
    });
    connections.add(connection);
    connection.once('close', () => connections.delete(connection));
    pass(connection);
  });
  // Intercepts after the call above, so that it runs before it.
  const intake = connectionIntake(server, tls !== undefined, { ...options, protocol: 'http' });
  followHandshakes(server, options.onHandshakeFailure);
  closeIdle(server, connections, keepAliveMs, now);
  return { server, connections, intake, sendWaiting: writes.flush };
}

/**
 * Closes idle connections. Node's own timer works only with sockets.
 *
 * @param keepAliveMs how long a connection may be idle, in milliseconds.
 */
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
  // An HTTPS server has the interface of an HTTP server; only its declared type differs.
  return https as unknown as Server;
}
