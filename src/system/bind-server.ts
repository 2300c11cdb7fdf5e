import { type AddressInfo, isIPv6, type Server } from 'node:net';

/** The address that a server listens on. */
export type BindTarget = { readonly host: string; readonly port: number } | { readonly path: string };

/**
 * Starts a server listening.
 *
 * @returns the actual address: `127.0.0.1:9080`, `[::]:9080` or `unix:/path`.
 * @throws the network error, with its `code`.
 */
export function bindServer(server: Server, target: BindTarget): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(target, () => {
      server.off('error', reject);
      if ('path' in target) return resolve(`unix:${target.path}`);
      const { address, port } = server.address() as AddressInfo;
      return resolve(`${bracketed(address)}:${port}`);
    });
  });
}

/** Encloses an IPv6 address in brackets, as URLs and `host:port` need it. */
export function bracketed(host: string): string {
  return isIPv6(host) ? `[${host}]` : host;
}
