import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Answer } from './answer.ts';

/** How long, and up to how many bytes, a declared body is drained after the answer, before the connection is closed. */
export const LINGER_MS = 1_000;
const LINGER_BYTES = 1024 * 1024;

/** Writes an answer as Node does it, whatever the connection is like. */
export function writeAnswer(
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
export function declaresBody({ headers }: IncomingMessage): boolean {
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
