import { Server as NetServer } from 'node:net';
import { DRAIN_NO_DATA_MS, DRAIN_PARTIAL_REQUEST_MS } from '../../limits/constants.ts';
import type { HttpConnection } from './http-connection.ts';
import type { HttpServer } from './server.ts';

/**
 * Creates the functions that close an HTTP server. `close` finishes complete requests, and gives
 * incomplete ones `partialGraceMs`. `destroy` closes every connection immediately.
 */
export function createDrainer(
  { server, connections, intake, sendWaiting }: HttpServer,
  { silentGraceMs = DRAIN_NO_DATA_MS, partialGraceMs = DRAIN_PARTIAL_REQUEST_MS } = {},
): { close(): Promise<void>; destroy(): void } {
  const closeIf = (isDone: (connection: HttpConnection) => boolean): void => {
    for (const connection of connections) {
      if (connection.pendingResponse === undefined && isDone(connection)) connection.destroySoon();
    }
  };
  return {
    close: () =>
      new Promise(resolve => {
        sendWaiting();
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
