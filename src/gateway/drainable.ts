import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** How long a connection that has sent nothing yet may still send its request, in milliseconds. */
const SILENT_GRACE_MS = 250;

/** How long one that has begun a request may take to end it, in milliseconds: whoever never does must not hold us up. */
const PARTIAL_GRACE_MS = 2_000;

/**
 * An HTTP server as draining sees it. It is made before the server listens, since a connection without a whole request is
 * not idle in Node's eyes, and once the server is closing has no timeout either: it must be known to be let go.
 */
export function drainable(
  server: Server,
  { silentGraceMs = SILENT_GRACE_MS, partialGraceMs = PARTIAL_GRACE_MS } = {},
): { close(): Promise<void>; destroy(): void } {
  const sockets = new Set<Socket>();
  const follow = (socket: Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  };
  // Under TLS the one is a handshake at first, and the other takes its place once that is done.
  server.on('connection', follow).on('secureConnection', (socket: Socket) => {
    sockets.delete(beneath(socket));
    follow(socket);
  });
  const letGo = (isDone: (socket: Socket) => boolean): void => {
    for (const socket of sockets) if (isDone(socket)) socket.destroySoon();
  };
  return {
    close: () =>
      new Promise(resolve => {
        const timers = [
          setTimeout(() => letGo(socket => socket.bytesRead === 0), silentGraceMs),
          setTimeout(() => letGo(socket => answerOn(socket) === undefined), partialGraceMs),
        ];
        server.close(() => {
          for (const timer of timers) clearTimeout(timer);
          resolve();
        });
      }),
    destroy() {
      server.closeAllConnections();
      // Handshakes are no connections in its eyes.
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** The connection that a TLS connection runs over; Node keeps it there and tells nobody else. */
function beneath(socket: Socket): Socket {
  return (socket as Socket & { readonly _parent: Socket })._parent;
}

/**
 * The answer that is under way or owed on a server's connection, if there is one. Node keeps it on the socket and offers no other way
 * to ask, short of a listener for each request; `test/gateway/drainable.test.ts` would notice if it did not any
 * more.
 */
export function answerOn(socket: Socket): ServerResponse | undefined {
  return (socket as Socket & { _httpMessage?: ServerResponse | null })._httpMessage ?? undefined;
}
