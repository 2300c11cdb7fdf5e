import { isIP } from 'node:net';
import type { Address } from '../../config/network-types.ts';
import { SETTINGS } from '../../config/schema.ts';
import { UsageError } from '../command.ts';
import { localHost } from '../local-target.ts';

/** The settings of the listeners that gateways connect to. */
export type Listener = 'listen' | 'grpcListen';

/** How a gateway writes an address in its configuration. */
export interface AddressSyntax {
  /** The gateway's name in error messages. */
  readonly gateway: string;
  /** Writes a TCP address. `host` is a host name or an IP address, IPv6 without brackets. */
  readonly tcp: (host: string, port: number) => string;
  /** Writes and quotes a socket path that {@link AddressSyntax.unwritable} does not match. */
  readonly unix: (path: string) => string;
  /** Matches what the gateway's syntax cannot express in a path. */
  readonly unwritable?: RegExp;
}

const bracketed = (host: string): string => (host.includes(':') ? `[${host}]` : host);

/** Quotes a text, with a backslash before each backslash and double quote. */
const quoted = (text: string): string => `"${text.replace(/[\\"]/g, '\\$&')}"`;

/** In an upstream's `server`, nginx interprets neither variables nor comments in quotes. */
export const nginxAddress: AddressSyntax = {
  gateway: 'nginx',
  tcp: (host, port) => `server ${bracketed(host)}:${port};`,
  unix: path => `server ${quoted(`unix:${path}`)};`,
};

/**
 * Writes the path as JSON, which is valid YAML except for some control and separator characters.
 * YAML reads these as line ends or drops them, so they are escaped.
 */
export const envoyAddress: AddressSyntax = {
  gateway: 'Envoy',
  tcp: (host, port) =>
    `socket_address: { address: ${host.includes(':') ? JSON.stringify(host) : host}, port_value: ${port} }`,
  unix: path =>
    `pipe: { path: ${JSON.stringify(path).replace(/[\x7f-\x9f\u2028\u2029\ufeff]/g, one => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)} }`,
};

/**
 * Caddy replaces `{$NAME}` when it reads the file and `{name}` when it connects. It parses the text
 * after `|` as a file mode. In double quotes a backslash escapes only a quote, so a path with a
 * quote or a backslash is written between backticks.
 */
export const caddyAddress: AddressSyntax = {
  gateway: 'Caddy',
  tcp: (host, port) => `forward_auth ${bracketed(host)}:${port} {`,
  unix: path => `forward_auth ${/["\\]/.test(path) ? `\`unix/${path}\`` : `"unix/${path}"`} {`,
  unwritable: /[{}|]|["\\].*`|`.*["\\]/,
};

/**
 * HAProxy expands variables in the address again after it has parsed the quotes. A `$` therefore
 * cannot be escaped.
 */
export const haproxyAddress: AddressSyntax = {
  gateway: 'HAProxy',
  tcp: (host, port) => `server gatecar ${bracketed(host)}:${port}`,
  unix: path => `server gatecar ${quoted(`unix@${path}`)}`,
  unwritable: /\$/,
};

/**
 * Formats a listener's address for a gateway on the same machine. A listener on all addresses is
 * written as the loopback address.
 *
 * @throws {UsageError} if the gateway cannot use the address; names the setting and the fix.
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

/** Whether an address has a host name, which a gateway must resolve. */
export function hasHostName(address: Address | undefined): boolean {
  return address?.kind === 'tcp' && isIP(hostOf(address)) === 0;
}

function hostOf(address: Extract<Address, { kind: 'tcp' }>): string {
  const host = localHost(address);
  return host === 'localhost' ? '127.0.0.1' : host;
}
