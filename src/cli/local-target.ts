import type { Address } from '../config/network-types.ts';

/** Where this machine reaches a listener. */
export interface LocalTarget {
  /** The base URL. For a Unix socket, its host is `localhost`. */
  readonly url: string;
  /** The path of the Unix socket, if it is one. */
  readonly socketPath?: string;
}

/** Returns where this machine reaches the listener at this address. */
export function localTarget(address: Address, scheme: 'http' | 'https'): LocalTarget {
  if (address.kind === 'unix') return { url: `${scheme}://localhost`, socketPath: address.path };
  const host = localHost(address);
  return { url: `${scheme}://${host.includes(':') ? `[${host}]` : host}:${address.port}` };
}

/** Returns the host of a TCP address, without brackets; for all addresses, that is loopback. */
export function localHost({ host = '' }: Extract<Address, { kind: 'tcp' }>): string {
  return ['', '0.0.0.0', '::'].includes(host) ? '127.0.0.1' : host;
}
