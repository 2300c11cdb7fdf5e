import { type IncomingMessage, METHODS, type ServerResponse } from 'node:http';
import Fastify, { type FastifyInstance } from 'fastify';
import { drainable } from './drainable.ts';
import { type ExchangeOptions, gate } from './http-exchange.ts';
import { connectionOf, type HttpServer, type HttpServerOptions, httpServer } from './http-server.ts';
import { peerOf } from './listener.ts';
import { refuseConnection } from './refuse-connection.ts';

export interface HttpGatewayOptions extends ExchangeOptions, HttpServerOptions {
  readonly now?: () => number;
}

export interface HttpGateway {
  readonly app: FastifyInstance;
  /** Accepts no more, finishes what has begun, and resolves when no connection is left. */
  close(): Promise<void>;
  /** Ends every connection at once. */
  destroy(): void;
}

/**
 * The auth listener: `/auth` and `/auth/*` in any method; anything else is 404.
 *
 * The answer depends on the `Authorization` header alone. Fastify's usual care about paths, methods, content types and
 * expectations is switched off one by one, since each would answer something that a gateway reads as an error of ours.
 */
export function httpGateway(options: HttpGatewayOptions): HttpGateway {
  const handle = gate(options);
  let listener: HttpServer | undefined;
  const server = Fastify({
    logger: false,
    // Whatever it is, and however it is written, it is not found.
    rewriteUrl: () => '/',
    exposeHeadRoutes: false,
    forceCloseConnections: false,
    return503OnClosing: false,
    clientErrorHandler: refuseConnection,
    // Past its router: there is one path, and the router costs as much as a look-up in the cache.
    serverFactory: handler => {
      const built = httpServer((request, response) => {
        if (isAuthPath(request.url as string)) handle(request, response, peerOf(built.server, request.socket));
        else handler(request, response);
      }, options);
      listener = built;
      return built.server;
    },
  });
  // Without a body in Fastify's eyes, no method's body is awaited or its content type judged.
  for (const method of METHODS) server.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  // `Expect` is neither met nor refused: the credential decides.
  const ignoreExpectation = (request: IncomingMessage, response: ServerResponse) =>
    server.server.emit('request', request, response);
  server.server.on('checkContinue', ignoreExpectation).on('checkExpectation', ignoreExpectation);

  server.setNotFoundHandler(({ raw }, reply) => {
    if (connectionOf(raw).hasBody) reply.header('Connection', 'close');
    return reply.code(404).send({ error: 'Not found: ask /auth' });
  });
  return { app: server, ...drainable(listener as unknown as HttpServer) };
}

/**
 * `/auth`, `/auth/…` and `/auth?…`; a proxy's absolute-form target (RFC 9112 §3.2.2) counts by its path. `/auth*` is what
 * Envoy's `path_prefix` makes of `OPTIONS *`.
 */
function isAuthPath(url: string): boolean {
  const path = url.startsWith('/') ? url : url.replace(/^https?:\/\/[^/?#]*/i, '');
  if (!path.startsWith('/auth')) return false;
  const next = path.charCodeAt(5);
  return Number.isNaN(next) || next === 0x2f /* / */ || next === 0x3f /* ? */ || path === '/auth*';
}
