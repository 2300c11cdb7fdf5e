import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AuthResponse } from '../auth-response.ts';
import type { HttpConnection } from './http-connection.ts';

/**
 * How long gatecar reads on after the answer to a request with a body, in milliseconds since its last byte and in all, and
 * how many bytes of it. Gateways send a body to its end, also after the answer, and take a connection that is closed
 * before for a failure.
 */
export const BODY_DRAIN_MS = 1_000;
const MAX_BODY_DRAIN_MS = 30_000;
const MAX_BODY_DRAIN_BYTES = 32 * 1024 * 1024;

/** Writes an answer as Node does it, whatever the connection is like. */
export function writeResponse(
  connection: HttpConnection,
  request: IncomingMessage,
  response: ServerResponse,
  { status, headers, body }: AuthResponse,
  { draining, lingerMs }: { draining: boolean; lingerMs: number },
): void {
  if (connection.hasBody) {
    response.writeHead(status, [...headers, 'Connection', 'close'] as string[]);
    drainBody(request, response, body, lingerMs);
    connection.readBody();
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
export function declaresBody({ headers }: IncomingMessage): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length !== undefined && Number(length) !== 0);
}

/**
 * Sends the whole answer now, and closes only when the body has come or its sender is too slow: a close with unread bytes
 * is a reset, which can overtake the answer (RFC 9112 §9.6). The body is dropped as it comes and takes no memory.
 */
function drainBody(request: IncomingMessage, response: ServerResponse, body: string, lingerMs: number): void {
  const idle = setTimeout(close, lingerMs);
  const inAll = setTimeout(close, MAX_BODY_DRAIN_MS);
  function close(): void {
    clearTimeout(idle);
    clearTimeout(inAll);
    response.end();
  }
  let drained = 0;
  request.on('data', (chunk: Buffer) => {
    drained += chunk.length;
    if (drained > MAX_BODY_DRAIN_BYTES) close();
    else idle.refresh();
  });
  // Comes after its end as well as after an error.
  request.once('close', close);
  response.once('close', close);
  // Node sends no head for a body that it leaves out.
  if (body === '' || request.method === 'HEAD') response.flushHeaders();
  else response.write(body);
}
