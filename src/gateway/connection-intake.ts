import type { Server, Socket } from 'node:net';
import { ConnectionGroup, type ConnectionPool, PooledConnection } from '../limits/connection-pool.ts';
import { CONNECTION_BYTES, HANDSHAKES_PER_TURN, STARTS_PER_TURN } from '../limits/constants.ts';
import { TurnQueue } from './turn-queue.ts';

export interface ConnectionIntakeOptions {
  readonly protocol: keyof typeof STARTS_PER_TURN;
  /** Shared by all listeners that count against the same limit. */
  readonly pool: ConnectionPool;
  /** Maximum number of connections of this listener. If unset, only the pool limits them. */
  readonly maxConnections?: number | undefined;
  /** Called for each new connection that gatecar closes because a limit is reached. */
  readonly onRejected?: (() => void) | undefined;
}

/** The connections that a listener has accepted. */
export interface ConnectionIntake {
  /**
   * Returns the pool's record of a socket that the server emits with `connection`, or with
   * `secureConnection` if it uses TLS.
   */
  pooledOf(socket: Socket): PooledConnection;
  /** Sockets whose TLS handshake is not complete. */
  readonly handshaking: Iterable<Socket>;
}

interface Handshake {
  readonly socket: Socket;
  readonly pooled: PooledConnection;
}

/**
 * Accepts connections while the pool has capacity and passes them to the server's own listeners. A
 * limited number starts in each event-loop iteration, so a flood of new connections does not delay
 * open ones.
 *
 * @param isTls whether the server performs the TLS handshakes itself.
 */
export function connectionIntake(
  server: Server,
  isTls: boolean,
  { protocol, pool, maxConnections, onRejected = () => {} }: ConnectionIntakeOptions,
): ConnectionIntake {
  const costBytes = CONNECTION_BYTES[protocol] + (isTls ? CONNECTION_BYTES.tls : 0);
  const plain = new WeakMap<Socket, PooledConnection>();
  // A TLS socket does not expose the socket below it, so they are matched by the client's address.
  const handshakes = new Map<string, Handshake>();
  const starting = new TurnQueue(isTls ? HANDSHAKES_PER_TURN : STARTS_PER_TURN[protocol]);
  const expectHandshake = (socket: Socket, pooled: PooledConnection): void => {
    const address = addressOf(socket);
    if (address === undefined) {
      // A client on a Unix socket has no address, so its handshake cannot be tracked. As busy, the
      // connection is never closed for another one. The file mode of the socket controls who may
      // connect.
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
      // With TLS on a Unix socket, clients have no address, so their own record cannot be found.
      return pooled ?? new PooledConnection(group, 0, () => socket.destroy());
    },
    get handshaking() {
      return [...handshakes.values()].map(({ socket }) => socket);
    },
  };
}

/**
 * Replaces a server's listeners for a socket event with `take`. `take` calls `pass` to invoke the
 * replaced listeners.
 */
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
