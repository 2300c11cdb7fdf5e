import type { IncomingMessage, ServerResponse } from 'node:http';
import { MAX_BODY_DRAIN_BYTES, MAX_BODY_DRAIN_MS } from '../../limits/constants.ts';
import type { AuthResponse } from '../auth-response.ts';
import type { HttpConnection } from './http-connection.ts';

/** Writes a response. If the request declares a body, drains the body and closes the connection. */
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

/** What the header lines say about the request as a message. */
export interface Framing {
  /**
   * Whether the request declares a body. By default nginx sends the client's `Content-Length`
   * without the body. On a kept-alive connection, the next request would be read as that body, and
   * its header values as a request. Such a connection is therefore never reused.
   */
  readonly declaresBody: boolean;
  /**
   * Whether the request has more than one `Host` line. RFC 9112 §3.2 demands a 400, because two
   * programs could use different lines.
   */
  readonly repeatsHost: boolean;
}

/** Reads the framing in one pass over the header lines. */
export function framingOf({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): Framing {
  let declaresBody = false;
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase();
    if (name === 'host') hosts += 1;
    else if (name === 'transfer-encoding') declaresBody = true;
    else if (name === 'content-length' && Number(rawHeaders[at + 1]) !== 0) declaresBody = true;
  }
  return { declaresBody, repeatsHost: hosts > 1 };
}

/**
 * Sends the whole response now, and ends it when the body is complete or exceeds a limit. Closing a
 * socket with unread bytes causes a reset, which can overtake the response (RFC 9112 §9.6). The
 * body is dropped as it arrives and uses no memory.
 */
function drainBody(request: IncomingMessage, response: ServerResponse, body: string, lingerMs: number): void {
  const idle = setTimeout(close, lingerMs);
  const total = setTimeout(close, MAX_BODY_DRAIN_MS);
  function close(): void {
    clearTimeout(idle);
    clearTimeout(total);
    response.end();
  }
  let drained = 0;
  request.on('data', (chunk: Buffer) => {
    drained += chunk.length;
    if (drained > MAX_BODY_DRAIN_BYTES) close();
    else idle.refresh();
  });
  // `close` follows the end of the body as well as an error.
  request.once('close', close);
  response.once('close', close);
  // If Node omits the body, `write` does not send the head.
  if (body === '' || request.method === 'HEAD') response.flushHeaders();
  else response.write(body);
}
