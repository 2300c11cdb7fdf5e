import { unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Address } from '../config/types.ts';

/** Says which setting's address could not be listened on, and why. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

/**
 * Listens, and says where: `127.0.0.1:9080`, `[::]:9080` or `unix:/path`.
 *
 * @param setting named if it fails.
 * @throws {ListenError}
 */
export async function listen(server: FastifyInstance, address: Address, setting: string): Promise<string> {
  await server.ready();
  try {
    if (address.kind === 'unix') await listenUnix(server, address.path);
    else if (address.host !== undefined) await bind(server, { host: address.host, port: address.port });
    else await bindEverywhere(server, address.port);
  } catch (error) {
    const { code = 'unknown error' } = error as { code?: string };
    throw new ListenError(`${setting}: cannot listen on ${address.text}: ${code}`);
  }
  return describe(server);
}

async function bindEverywhere(server: FastifyInstance, port: number): Promise<void> {
  try {
    await bind(server, { host: '::', port });
  } catch (error) {
    // No IPv6 on this machine.
    if (!['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes((error as { code?: string }).code ?? '')) throw error;
    await bind(server, { host: '0.0.0.0', port });
  }
}

async function listenUnix(server: FastifyInstance, path: string): Promise<void> {
  try {
    await bind(server, { path });
  } catch (error) {
    // A socket that nobody answers on is left over from a process that was killed.
    if ((error as { code?: string }).code !== 'EADDRINUSE' || (await answers(path))) throw error;
    await unlink(path);
    await bind(server, { path });
  }
}

function bind({ server }: FastifyInstance, options: { host?: string; port?: number; path?: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('close', () => socket.destroy());
    socket.once('connect', () => socket.destroy());
  });
}

function describe({ server }: FastifyInstance): string {
  const bound = server.address();
  if (bound === null || typeof bound === 'string') return `unix:${bound ?? ''}`;
  return bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`;
}
