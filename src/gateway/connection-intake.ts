import type { Server, Socket } from 'node:net';
import { CONNECTION_BYTES, ConnectionGroup, type ConnectionPool, PooledConnection } from '../limits/connection-pool.ts';
import { TurnQueue } from './turn-queue.ts';

/** How many connections may start in one turn of the event loop. An HTTP/2 session takes a third of a millisecond. */
const STARTS_PER_TURN = { http: 16, grpc: 2 } as const;
/** The same with TLS, where each takes up to a millisecond of signing. */
const HANDSHAKES_PER_TURN = 2;

export interface ConnectionIntakeOptions {
  readonly protocol: keyof typeof STARTS_PER_TURN;
  /** Shared by all listeners that are to have one limit. */
  readonly pool: ConnectionPool;
  /** Most connections of this listener. Without it the pool alone sets a limit. */
  readonly maxConnections?: number | undefined;
  /** Called for each connection that was closed because there was no room for it. */
  readonly onRejected?: (() => void) | undefined;
}

/** The connections that a listener has taken in. */
export interface ConnectionIntake {
  /** The pool's record of a socket that the server hands out (`connection`, or `secureConnection` with TLS). */
  pooledOf(socket: Socket): PooledConnection;
  /** Those whose TLS handshake is not complete. */
  readonly handshaking: Iterable<Socket>;
}

interface Handshake {
  readonly socket: Socket;
  readonly pooled: PooledConnection;
}

/**
 * Takes connections in as far as the pool has room, and passes them on to the server's own listeners, a few in each turn of
 * the event loop, so that a flood of connections does not delay those that are open.
 *
 * @param isTls whether the server does the handshakes itself.
 */
export function connectionIntake(
  server: Server,
  isTls: boolean,
  { protocol, pool, maxConnections, onRejected = () => {} }: ConnectionIntakeOptions,
): ConnectionIntake {
  const costBytes = CONNECTION_BYTES[protocol] + (isTls ? CONNECTION_BYTES.tls : 0);
  const plain = new WeakMap<Socket, PooledConnection>();
  // A TLS socket does not name the socket below it, so they are matched by the client's address.
  const handshakes = new Map<string, Handshake>();
  const starting = new TurnQueue(isTls ? HANDSHAKES_PER_TURN : STARTS_PER_TURN[protocol]);
  const expectHandshake = (socket: Socket, pooled: PooledConnection): void => {
    const address = addressOf(socket);
    if (address === undefined) {
      // What becomes of it cannot be followed. Who may connect is for the mode of the Unix socket to say.
      pool.waitsNoMore(pooled);
      pooled.isBusy = () => true;
      return;
    }
    handshakes.set(address, { socket, pooled });
    socket.once('close', () => handshakes.delete(address));
  };

  const group = new ConnectionGroup(maxConnections);
  intercept(server, 'connection', (socket, pass) => {
    const pooled = new PooledConnection(group, costBytes, () => {
      onRejected();
      socket.destroy();
    });
    if (!pool.add(pooled)) {
      pooled.destroy();
      return;
    }
    socket.once('close', () => pool.remove(pooled));
    if (isTls) expectHandshake(socket, pooled);
    else plain.set(socket, pooled);
    starting.add(() => {
      if (socket.destroyed) return false;
      pass(socket);
      return true;
    });
  });
  return {
    pooledOf(socket) {
      const address = addressOf(socket) ?? '';
      const pooled = plain.get(socket) ?? handshakes.get(address)?.pooled;
      handshakes.delete(address);
      // Peers on a Unix socket have no address: their own record cannot be found.
      return pooled ?? new PooledConnection(group, 0, () => socket.destroy());
    },
    get handshaking() {
      return [...handshakes.values()].map(({ socket }) => socket);
    },
  };
}

/** Puts `take` before the listeners that a server has for an event with a socket. `take` calls `pass` to go on. */
export function intercept(
  server: Server,
  event: 'connection' | 'secureConnection',
  take: (socket: Socket, pass: (connection: unknown) => void) => void,
): void {
  const listeners = server.listeners(event);
  server.removeAllListeners(event);
  server.on(event, socket =>
    take(socket, connection => {
      for (const listener of listeners) listener.call(server, connection);
    }),
  );
}

function addressOf({ remoteAddress, remotePort }: Socket): string | undefined {
  return remotePort === undefined ? undefined : `${remoteAddress} ${remotePort}`;
}
