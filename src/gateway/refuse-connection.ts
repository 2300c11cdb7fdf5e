import type { Socket } from 'node:net';
import { answerOn } from './drainable.ts';

/**
 * What is not valid HTTP, or never comes to an end, is no question: the parser's own refusal and a closed connection.
 * Where an answer is under way or owed, a refusal would be taken for that one or for one too many: it comes to its end,
 * and the connection with it.
 */
export function refuseConnection(error: Error & { code?: string }, socket: Socket): void {
  // What is not from the parser is from below: a reset, or TLS that came to nothing, where no refusal can be sent.
  if (!/^(HPE_|ERR_HTTP_)/.test(String(error.code)) || !socket.writable) {
    socket.destroy();
    return;
  }
  const owed = answerOn(socket);
  if (owed !== undefined) {
    owed.once('close', () => socket.destroySoon());
    // It has been given, and only waits for a body that will not come.
    if (owed.headersSent) owed.end();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}
