import type { Socket } from 'node:net';
import { connectionOf } from './server.ts';

/**
 * Answers input that is not valid HTTP, or a request that does not come to an end: the parser's own rejection and a closed
 * connection. While an answer is owed or being written, a rejection would be read as part of it: the answer is finished,
 * and the connection closed after it.
 *
 * @param socket an `HttpConnection`, or one on which a TLS handshake failed.
 */
export function handleClientError(error: Error & { code?: string }, socket: Socket): void {
  // Other errors come from below: a reset, or a failed handshake, on which nothing can be sent.
  if (!/^(HPE_|ERR_HTTP_)/.test(String(error.code)) || !socket.writable) {
    socket.destroy();
    return;
  }
  const { pendingResponse: owed } = connectionOf({ socket });
  if (owed !== undefined) {
    owed.once('close', () => socket.destroySoon());
    // It has been sent, and waits only for a body that will not come.
    if (owed.headersSent) owed.end();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}
