import { type IncomingMessage, METHODS, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';
import type { Authorize } from '../authorize.ts';
import { type Credential, readCredential } from '../credential/bearer.ts';
import type { Decision } from '../decision/decision.ts';
import type { Answer } from './answer.ts';
import { type Decided, type Follow, INTERNAL_ERROR, question, TOO_MANY_AT_ONCE } from './decided.ts';
import { type Forwarded, type ForwardedOptions, readForwarded, reportedClient, reportedTrace } from './forwarded.ts';
import { type HttpServerOptions, httpServer, KEEP_ALIVE_MS } from './http-server.ts';
import { refuseConnection } from './refuse-connection.ts';
import { wholeHead } from './whole-head.ts';

/** How long, and up to how many bytes, a declared body is drained after the answer, before the connection is closed. */
const LINGER_MS = 1_000;
const LINGER_BYTES = 1024 * 1024;

/**
 * How many requests of one connection may wait for their decision. No gateway sends a request before the last one was
 * answered; Node bounds the answers that wait to be read, and nothing else bounds the requests that wait for an answer.
 */
const MAX_UNDECIDED = 256;

export interface HttpGatewayOptions extends ForwardedOptions, HttpServerOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => Answer;
  readonly onDecision?: (decided: Decided) => void;
  readonly follow?: Follow | undefined;
  /** Told of an error nobody foresaw; the request has been answered 503. */
  readonly onFault?: (error: unknown) => void;
  /** While true, answers ask the gateway to leave the connection. */
  readonly draining?: () => boolean;
  readonly now?: () => number;
  readonly lingerMs?: number;
}

/**
 * The auth listener: `/auth` and `/auth/*` in any method; anything else is 404.
 *
 * The answer depends on the `Authorization` header alone. Fastify's usual care about paths, methods, content types and
 * expectations is switched off one by one, since each would answer something that a gateway reads as an error of ours.
 */
export function httpGateway(options: HttpGatewayOptions): FastifyInstance {
  const handle = gate(options);
  const server = Fastify({
    logger: false,
    // Whatever it is, and however it is written, it is not found.
    rewriteUrl: () => '/',
    exposeHeadRoutes: false,
    forceCloseConnections: false,
    return503OnClosing: false,
    clientErrorHandler: refuseConnection,
    // Past its router: there is one path, and the router costs as much as a look-up in the cache.
    serverFactory: handler =>
      httpServer((request, response) => {
        if (isAuthPath(request.url as string)) handle(request, response);
        else handler(request, response);
      }, options),
  });
  // Without a body in Fastify's eyes, no method's body is awaited or its content type judged.
  for (const method of METHODS) server.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  // `Expect` is neither met nor refused: the credential decides.
  const ignoreExpectation = (request: IncomingMessage, response: ServerResponse) =>
    server.server.emit('request', request, response);
  server.server.on('checkContinue', ignoreExpectation).on('checkExpectation', ignoreExpectation);

  server.setNotFoundHandler(({ raw }, reply) => {
    if (declaresBody(raw)) reply.header('Connection', 'close');
    return reply.code(404).send({ error: 'Not found: ask /auth' });
  });
  return server;
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

function gate(options: HttpGatewayOptions): (request: IncomingMessage, response: ServerResponse) => void {
  const desk = new Desk(options);
  return (request, response) => {
    const exchange = new Exchange(desk, request, response);
    try {
      const decision = desk.decide(exchange);
      if (decision instanceof Promise) desk.await(exchange, decision);
      else exchange.finish(decision);
    } catch (error) {
      exchange.fail(error);
    }
  };
}

/** What all requests of one listener share. */
class Desk {
  readonly options: HttpGatewayOptions;
  readonly now: () => number;
  readonly draining: () => boolean;
  readonly lingerMs: number;
  readonly whole = wholeHead(KEEP_ALIVE_MS);
  readonly #undecided = new WeakMap<Socket, number>();

  constructor(options: HttpGatewayOptions) {
    this.options = options;
    this.now = options.now ?? (() => performance.now());
    this.draining = options.draining ?? (() => false);
    this.lingerMs = options.lingerMs ?? LINGER_MS;
  }

  decide({ request, peer, credential, trail }: Exchange): Decision | Promise<Decision> {
    if ((this.#undecided.get(request.socket) ?? 0) >= MAX_UNDECIDED) return TOO_MANY_AT_ONCE;
    return this.options.authorize(credential, question(reportedClient(peer, request.headers, this.options), trail));
  }

  await(exchange: Exchange, decision: Promise<Decision>): void {
    const { socket } = exchange.request;
    this.#count(socket, 1);
    decision
      .finally(() => this.#count(socket, -1))
      .then(decided => exchange.finish(decided))
      .catch(error => exchange.fail(error));
  }

  #count(socket: Socket, change: number): void {
    this.#undecided.set(socket, (this.#undecided.get(socket) ?? 0) + change);
  }
}

/**
 * One request and what became of it. An object with methods, and no closures: most requests are answered at once, and
 * making five functions for each of them took as long as finding the answer.
 */
class Exchange implements Decided {
  readonly protocol = 'http';
  readonly request: IncomingMessage;
  readonly credential: Credential;
  readonly peer: string | undefined;
  readonly trail: Decided['trail'];
  decision: Decision = INTERNAL_ERROR;
  answer!: Answer;
  durationMs = 0;
  readonly #desk: Desk;
  readonly #response: ServerResponse;
  readonly #start: number;

  constructor(desk: Desk, request: IncomingMessage, response: ServerResponse) {
    this.#desk = desk;
    this.#response = response;
    this.#start = desk.now();
    this.request = request;
    this.credential = readCredential(request.rawHeaders);
    // Read now: a connection that has been closed has no address, and would pass for a Unix socket's.
    this.peer = request.socket.remoteAddress;
    const { follow } = desk.options;
    this.trail = follow?.(() => reportedTrace(this.peer, request.headers, this.credential, desk.options));
  }

  forwarded(): Forwarded {
    return readForwarded(this.peer, this.request.headers, this.credential, this.#desk.options);
  }

  finish(decision: Decision): void {
    const desk = this.#desk;
    const { options, whole, lingerMs } = desk;
    const { request } = this;
    const response = this.#response;
    const answer = options.answer(decision);
    const draining = desk.draining();
    if (answer.head !== undefined && !draining && whole.suits(request, response) && !declaresBody(request)) {
      whole.write(response, answer.head, answer.body);
    } else {
      write(request, response, answer, { draining, lingerMs });
    }
    this.decision = decision;
    this.answer = answer;
    this.durationMs = desk.now() - this.#start;
    options.onDecision?.(this);
  }

  fail(error: unknown): void {
    this.#desk.options.onFault?.(error);
    if (!this.#response.headersSent) this.finish(INTERNAL_ERROR);
  }
}

function write(
  request: IncomingMessage,
  response: ServerResponse,
  { status, headers, body }: Answer,
  { draining, lingerMs }: { draining: boolean; lingerMs: number },
): void {
  if (declaresBody(request)) {
    response.writeHead(status, [...headers, 'Connection', 'close'] as string[]);
    linger(request, response, body, lingerMs);
  } else {
    response.writeHead(status, (draining ? [...headers, 'Connection', 'close'] : headers) as string[]);
    response.end(body);
  }
}

/**
 * Whether more bytes belong to this request. nginx sends the client's `Content-Length` without the body unless told not
 * to; on a kept-alive connection the next request would be swallowed as that body, and its header values read as a
 * request. So such a connection is never used again.
 */
function declaresBody({ headers }: IncomingMessage): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length !== undefined && Number(length) !== 0);
}

/**
 * Sends the whole answer now, and closes only when the body has come, was too long, or time is up: a close with unread
 * bytes is a reset, which can overtake the answer (RFC 9112 §9.6).
 */
function linger(request: IncomingMessage, response: ServerResponse, body: string, lingerMs: number): void {
  let drained = 0;
  const timer = setTimeout(() => response.end(), lingerMs);
  const close = () => {
    clearTimeout(timer);
    response.end();
  };
  request.on('data', (chunk: Buffer) => {
    drained += chunk.length;
    if (drained > LINGER_BYTES) close();
  });
  // Comes after its end as well as after an error.
  request.once('close', close);
  response.once('close', close);
  // Node sends no head for a body that it leaves out.
  if (body === '' || request.method === 'HEAD') response.flushHeaders();
  else response.write(body);
}
