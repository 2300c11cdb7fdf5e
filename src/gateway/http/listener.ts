import { type IncomingMessage, METHODS, type ServerResponse } from 'node:http';
import Fastify, { type FastifyInstance } from 'fastify';
import { remoteAddress } from '../../tls/listener-options.ts';
import { type AuthHandlerOptions, createAuthHandler } from './auth-handler.ts';
import { handleClientError } from './client-error.ts';
import { createDrainer } from './connection-drain.ts';
import { connectionOf, type HttpServer, type HttpServerOptions, httpServer } from './server.ts';

export interface HttpListenerOptions extends AuthHandlerOptions, HttpServerOptions {
  readonly now?: () => number;
  /** Called with the target and the headers of a request to a path other than `/auth`. */
  readonly onUnknownPath?: (target: string, rawHeaders: readonly string[]) => void;
}

export interface HttpListener {
  readonly app: FastifyInstance;
  /**
   * Stops accepting connections, completes started requests, and resolves when no connection is
   * left.
   */
  close(): Promise<void>;
  /** Closes every connection immediately. */
  destroy(): void;
}

/** The only route, and a path that has no route. */
const AUTH_ROUTE = '/auth';
const NO_ROUTE = '/';

/**
 * Creates the auth listener. It serves `/auth` and `/auth/*` with any method; any other path is a
 * 404.
 *
 * The response depends only on the `Authorization` header. Fastify's checks of paths, methods,
 * content types and expectations are disabled. A gateway would treat their error responses as a
 * failure of gatecar.
 */
export function createHttpListener(options: HttpListenerOptions): HttpListener {
  const handle = createAuthHandler(options);
  let listener: HttpServer | undefined;
  const server = Fastify({
    logger: false,
    rewriteUrl: ({ url = '' }) => (isAuthPath(url) ? AUTH_ROUTE : NO_ROUTE),
    exposeHeadRoutes: false,
    forceCloseConnections: false,
    return503OnClosing: false,
    clientErrorHandler: handleClientError,
    serverFactory: handler => {
      listener = httpServer(handler, { ...options, allowedStatus: 200 });
      return listener.server;
    },
  });
  // With this, Fastify waits for no body and checks no content type, for any method.
  for (const method of METHODS) server.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  // `Expect` headers are ignored, because only the credential decides.
  const ignoreExpectation = (request: IncomingMessage, response: ServerResponse) =>
    server.server.emit('request', request, response);
  server.server.on('checkContinue', ignoreExpectation).on('checkExpectation', ignoreExpectation);

  server.all(AUTH_ROUTE, (request, reply) => {
    // Fastify would send header names in lower case, and end the response before the request's body
    // has been read.
    reply.hijack();
    const peer = remoteAddress(server.server, request.socket);
    handle({ request: request.raw, response: reply.raw, target: request.originalUrl, peer });
  });
  server.setNotFoundHandler(({ raw, originalUrl }, reply) => {
    options.onUnknownPath?.(originalUrl, raw.rawHeaders);
    if (connectionOf(raw).hasBody) reply.header('Connection', 'close');
    return reply.code(404).send({ error: 'Not found: gateways must call /auth' });
  });
  return { app: server, ...createDrainer(listener as unknown as HttpServer) };
}

/**
 * Whether a request target is `/auth`, `/auth/…` or `/auth?…`. A target in absolute form (RFC 9112
 * §3.2.2) counts by its path. `/auth*` is what Envoy's `path_prefix` makes of `OPTIONS *`.
 */
function isAuthPath(url: string): boolean {
  const path = url.startsWith('/') ? url : url.replace(/^https?:\/\/[^/?#]*/i, '');
  if (!path.startsWith('/auth')) return false;
  const next = path.charCodeAt(5);
  return Number.isNaN(next) || next === 0x2f /* / */ || next === 0x3f /* ? */ || path === '/auth*';
}
