import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Address } from '../config/network-types.ts';
import { type BindTarget, bindServer } from '../system/bind-server.ts';
import { errorCode } from '../system/error-code.ts';

/** Names the setting whose address cannot be listened on, and the reason. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

/**
 * Starts a server listening, see {@link bindServer}.
 *
 * @returns the actual address.
 * @throws the network error, with its `code`.
 */
export type Bind = (target: BindTarget) => Promise<string>;

/** Default permissions of a Unix socket. */
const SOCKET_MODE = 0o660;

/**
 * Listens on an address of the configuration, and returns the actual address.
 *
 * @param setting named in the error.
 * @param socketMode permissions of a Unix socket.
 * @throws {ListenError}
 */
export async function bindAddress(
  bind: Bind,
  address: Address,
  setting: string,
  socketMode: number = SOCKET_MODE,
): Promise<string> {
  try {
    if (address.kind === 'unix') return await listenUnix(withMode(bind, socketMode), address.path);
    if (address.host !== undefined) return await bind({ host: address.host, port: address.port });
    return await bindAllInterfaces(bind, address.port);
  } catch (error) {
    throw new ListenError(`${setting}: cannot listen on ${address.text}: ${errorCode(error)}`);
  }
}

/** {@link bindAddress} for an HTTP server. */
export async function listen(
  server: FastifyInstance,
  address: Address,
  setting: string,
  socketMode?: number,
): Promise<string> {
  await server.ready();
  return bindAddress(target => bindServer(server.server, target), address, setting, socketMode);
}

/**
 * Wraps `bind` to create Unix sockets with these permissions. The umask sets them when the socket
 * is created, so other users cannot connect before they apply. A later chmod would also act on a
 * path that can be swapped. Node binds a socket before `listen` returns, so no other code of this
 * process runs under that umask.
 */
function withMode(bind: Bind, mode: number): Bind {
  return target => {
    const before = process.umask(0o777 & ~mode);
    try {
      return bind(target);
    } finally {
      process.umask(before);
    }
  };
}

async function bindAllInterfaces(bind: Bind, port: number): Promise<string> {
  try {
    return await bind({ host: '::', port });
  } catch (error) {
    // This machine has no IPv6.
    if (!['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes(errorCode(error))) throw error;
    return await bind({ host: '0.0.0.0', port });
  }
}

async function listenUnix(bind: Bind, path: string): Promise<string> {
  try {
    return await bind({ path });
  } catch (error) {
    // A socket that does not accept connections is left over from a killed process. gatecar must
    // not remove any other file.
    if (errorCode(error) !== 'EADDRINUSE' || !(await lstat(path)).isSocket() || (await isAccepting(path))) throw error;
    await unlink(path);
    return await bind({ path });
  }
}

function isAccepting(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    const end = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.once('connect', () => end(true)).once('error', () => end(false));
  });
}
