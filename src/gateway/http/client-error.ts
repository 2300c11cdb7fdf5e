import type { Socket } from 'node:net';
import { connectionOf } from './server.ts';

/**
 * Handles invalid HTTP input and requests that time out: sends a 400 or 431 response and closes the
 * connection. While another response is pending or being written, the client would read the error
 * response as part of it. gatecar then finishes that response and closes the connection after it.
 *
 * @param socket an `HttpConnection`, or a socket whose TLS handshake failed.
 */
export function handleClientError(error: Error & { code?: string }, socket: Socket): void {
  // Other errors come from the transport: a reset, or a failed handshake. No response can be sent.
  if (!/^(HPE_|ERR_HTTP_)/.test(String(error.code)) || !socket.writable) {
    socket.destroy();
    return;
  }
  const { pendingResponse } = connectionOf({ socket });
  if (pendingResponse !== undefined) {
    pendingResponse.once('close', () => socket.destroySoon());
    // The response has been sent and waits only for a request body that will not arrive.
    if (pendingResponse.headersSent) pendingResponse.end();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}
