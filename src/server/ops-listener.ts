import { type IncomingMessage, METHODS, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { METRICS_RENDER_EVERY_MS } from '../limits/constants.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { Health } from './health.ts';

export interface OpsServerOptions {
  readonly health: Health;
  readonly metrics: Pick<Metrics, 'scrape' | 'contentType'>;
  /** Builds the underlying HTTP server, with its limits. */
  readonly listener: (handler: RequestListener) => Server;
  readonly hasBody: (request: IncomingMessage) => boolean;
  /** Closes a connection that does not send valid HTTP. */
  readonly onClientError: (error: Error & { code?: string }, socket: Socket) => void;
}

/**
 * Creates the ops listener: `/livez`, `/readyz` (`?verbose`), `/metrics`. It never answers an auth
 * request, and it reads no body.
 */
export function opsServer(options: OpsServerOptions): FastifyInstance {
  const { health, metrics, listener, hasBody, onClientError } = options;
  // Fastify's own error texts repeat the URL. A client that mistakes this listener for the auth
  // listener may have put a token there.
  const notFound = (reply: FastifyReply) => reply.code(404).type('text/plain').send('not found\n');
  const server = Fastify({
    logger: false,
    forceCloseConnections: false,
    serverFactory: listener,
    clientErrorHandler: onClientError,
    frameworkErrors: (_error, _request, reply) => notFound(reply),
  });
  for (const method of METHODS) server.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  server.addHook('onRequest', async ({ raw }, reply) => {
    if (hasBody(raw)) reply.header('Connection', 'close');
  });
  server.setNotFoundHandler((_request, reply) => notFound(reply));
  server.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'));
  server.get<{ Querystring: { verbose?: string } }>('/readyz', (request, reply) => {
    const verbose = request.query.verbose !== undefined;
    return reply
      .code(health.ready ? 200 : 503)
      .header('Cache-Control', 'no-store')
      .type('text/plain')
      .send(verbose ? health.report() : health.ready ? 'ok\n' : 'not ready; see /readyz?verbose\n');
  });
  const scrape = sharedRendering(metrics.scrape, METRICS_RENDER_EVERY_MS);
  server.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await scrape()));
  return server;
}

/**
 * Shares one rendering among all callers that ask before it starts. Renderings start at least
 * `everyMs` apart, so a flood of scrapes costs at most one rendering in that time.
 */
export function sharedRendering(
  render: () => Promise<string>,
  everyMs: number,
  now: () => number = () => performance.now(),
): () => Promise<string> {
  let next: Promise<string> | undefined;
  let lastMs = Number.NEGATIVE_INFINITY;
  const renderNow = (): Promise<string> => {
    next = undefined;
    lastMs = now();
    return render();
  };
  return () => {
    next ??= wait(Math.max(0, lastMs + everyMs - now())).then(renderNow);
    return next;
  };
}
