import { isIP } from 'node:net';
import { SETTINGS } from '../../config/schema.ts';
import type { Address } from '../../config/setting-types.ts';
import { UsageError } from '../command.ts';

/** The listeners that gateways ask. */
export type Listener = 'listen' | 'grpcListen';

/** How a gateway writes an address in its configuration. */
export interface AddressSyntax {
  /** The gateway's name, for errors. */
  readonly gateway: string;
  /** `host` is an IP address, an IPv6 address without brackets, or a host name. */
  readonly tcp: (host: string, port: number) => string;
  /** A path that {@link AddressSyntax.unwritable} does not match, quoted. */
  readonly unix: (path: string) => string;
  /** What no path may have, because the gateway has no way to write it. */
  readonly unwritable?: RegExp;
}

const bracketed = (host: string): string => (host.includes(':') ? `[${host}]` : host);

/** With a backslash before each backslash and double quote. */
const quoted = (text: string): string => `"${text.replace(/[\\"]/g, '\\$&')}"`;

/** In `server` of an upstream nginx reads neither variables nor comments in quotes. */
export const nginxAddress: AddressSyntax = {
  gateway: 'nginx',
  tcp: (host, port) => `server ${bracketed(host)}:${port};`,
  unix: path => `server ${quoted(`unix:${path}`)};`,
};

/** JSON is YAML but for some separators, which YAML takes for line ends or leaves out. */
export const envoyAddress: AddressSyntax = {
  gateway: 'Envoy',
  tcp: (host, port) =>
    `socket_address: { address: ${host.includes(':') ? JSON.stringify(host) : host}, port_value: ${port} }`,
  unix: path =>
    `pipe: { path: ${JSON.stringify(path).replace(/[\x7f-\x9f\u2028\u2029\ufeff]/g, one => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)} }`,
};

/**
 * Caddy replaces `{$NAME}` when it reads the file and `{name}` when it dials, and takes what follows `|` for a mode. In
 * double quotes a backslash escapes only a quote, so that a path with either is written between backticks.
 */
export const caddyAddress: AddressSyntax = {
  gateway: 'Caddy',
  tcp: (host, port) => `forward_auth ${bracketed(host)}:${port} {`,
  unix: path => `forward_auth ${/["\\]/.test(path) ? `\`unix/${path}\`` : `"unix/${path}"`} {`,
  unwritable: /[{}|]|["\\].*`|`.*["\\]/,
};

/** HAProxy expands variables in the address once more after it has read the quotes, so that no escape keeps a `$`. */
export const haproxyAddress: AddressSyntax = {
  gateway: 'HAProxy',
  tcp: (host, port) => `server gatecar ${bracketed(host)}:${port}`,
  unix: path => `server gatecar ${quoted(`unix@${path}`)}`,
  unwritable: /\$/,
};

/**
 * The address of a listener as a gateway on the same machine writes it; what listens everywhere is asked on the loopback.
 *
 * @throws {UsageError} that names the setting and what to write if the gateway cannot be given the address.
 */
export function writtenAddress(syntax: AddressSyntax, listener: Listener, address: Address): string {
  const { name } = SETTINGS[listener];
  if (address.kind === 'unix') {
    const [found] = syntax.unwritable?.exec(address.path) ?? [];
    if (found === undefined) return syntax.unix(address.path);
    const what = JSON.stringify(found);
    throw new UsageError(`${name}: ${syntax.gateway} cannot be given a socket path with ${what}; rename the socket`);
  }
  const host = hostOf(address);
  if (address.port === 0) {
    throw new UsageError(`${name}: ${address.text} is another port each time; set the port that the gateway asks`);
  }
  if (host.includes('%')) {
    throw new UsageError(
      `${name}: gateways do not take the zone of ${address.text}; listen on 127.0.0.1 or a Unix socket`,
    );
  }
  return syntax.tcp(host, address.port);
}

/** Whether an address has a host name, which a gateway must look up. */
export function hasHostName(address: Address | undefined): boolean {
  return address?.kind === 'tcp' && isIP(hostOf(address)) === 0;
}

function hostOf({ host = '' }: Extract<Address, { kind: 'tcp' }>): string {
  return ['', '0.0.0.0', '::', 'localhost'].includes(host) ? '127.0.0.1' : host;
}
