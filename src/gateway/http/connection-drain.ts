import { Server as NetServer } from 'node:net';
import type { HttpConnection } from './http-connection.ts';
import type { HttpServer } from './server.ts';

/** How long a connection that has received no data may still send its request, in milliseconds. */
const NO_DATA_TIMEOUT_MS = 250;

/** How long a connection with an incomplete request may take to complete it, in milliseconds. */
const PARTIAL_REQUEST_TIMEOUT_MS = 2_000;

/**
 * Creates the functions that close an HTTP server. `close` loses no request; `destroy` closes every
 * connection immediately.
 */
export function createDrainer(
  { server, connections, intake }: HttpServer,
  { silentGraceMs = NO_DATA_TIMEOUT_MS, partialGraceMs = PARTIAL_REQUEST_TIMEOUT_MS } = {},
): { close(): Promise<void>; destroy(): void } {
  const closeIf = (isDone: (connection: HttpConnection) => boolean): void => {
    for (const connection of connections) {
      if (connection.pendingResponse === undefined && isDone(connection)) connection.destroySoon();
    }
  };
  return {
    close: () =>
      new Promise(resolve => {
        closeIf(connection => !connection.isNew && !connection.hasPartialRequest);
        const timers = [
          setTimeout(() => closeIf(connection => !connection.hasPartialRequest), silentGraceMs),
          setTimeout(() => {
            closeIf(() => true);
            for (const socket of intake.handshaking) socket.destroy();
          }, partialGraceMs),
        ];
        // The HTTP server's own `close` would close connections whose next request has been
        // received but not parsed.
        NetServer.prototype.close.call(server, () => {
          for (const timer of timers) clearTimeout(timer);
          resolve();
        });
      }),
    destroy() {
      server.close();
      for (const connection of connections) connection.destroy();
      for (const socket of intake.handshaking) socket.destroy();
    },
  };
}
