import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Bench } from './scenario.ts';

/** A TCP proxy that counts connections. */
export interface ConnectionCounter {
  readonly port: number;
  /** Connections accepted so far. */
  readonly accepted: number;
}

/**
 * Starts the proxy in this process; it stops when the scenario ends.
 *
 * @param target `http://host:port`, or `https:` for TLS.
 */
export async function countConnections(bench: Bench, target: string): Promise<ConnectionCounter> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let accepted = 0;
  const server = createServer({ noDelay: true }, client => {
    accepted += 1;
    const upstream = connect({ port: Number(port), host: hostname, noDelay: true });
    client.pipe(upstream).pipe(client);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy()).once('close', () => sockets.delete(one));
    }
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  bench.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    port: (server.address() as AddressInfo).port,
    get accepted() {
      return accepted;
    },
  };
}
