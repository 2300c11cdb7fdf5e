import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { Health } from './health.ts';
import type { Metrics } from './metrics.ts';

/** The ops listener: `/livez`, `/readyz` (`?verbose`), `/metrics`. Never an auth answer. */
export function opsServer(health: Health, metrics: Metrics): FastifyInstance {
  // Fastify's own texts repeat the URL, and whoever mistakes this listener for the other may have put a token there.
  const notFound = (reply: FastifyReply) => reply.code(404).type('text/plain').send('not found\n');
  const server = Fastify({ logger: false, frameworkErrors: (_error, _request, reply) => notFound(reply) });
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
  server.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.scrape()));
  return server;
}
