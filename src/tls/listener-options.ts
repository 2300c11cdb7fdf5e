import type { Server, Socket } from 'node:net';
import type { SecureContextOptions, TlsOptions } from 'node:tls';
import { HANDSHAKE_TIMEOUT_MS } from '../limits/constants.ts';
import type { OnHandshakeFailure } from './handshake-failure.ts';

/** TLS 1.2 is allowed only with forward secrecy and authenticated encryption. */
const CIPHERS = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');

/** The certificates and the key of a listener, in PEM. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** If set, clients must present a certificate that one of these CAs signed. */
  readonly clientCa: Buffer | undefined;
}

/** The TLS material of a listener, which may be replaced. */
export interface ListenerTls {
  /** The active material. */
  readonly material: TlsMaterial;
  /** Registers a callback for new material. Open connections are not affected. */
  onReplaced(take: (material: TlsMaterial) => void): void;
}

/** How clients connect to a listener. */
export interface ListenerOptions {
  /** If unset, the listener uses plain text. */
  readonly tls?: ListenerTls | undefined;
  readonly handshakeTimeoutMs?: number | undefined;
  /** Called for each TLS handshake that failed. */
  readonly onHandshakeFailure?: OnHandshakeFailure | undefined;
}

/** Returns the part of a server's TLS options that never changes. */
export function handshakeOptions(
  { material }: ListenerTls,
  handshakeTimeout: number = HANDSHAKE_TIMEOUT_MS,
): TlsOptions {
  const mutual = material.clientCa !== undefined;
  return { handshakeTimeout, requestCert: mutual, rejectUnauthorized: mutual };
}

/**
 * Returns the part of a server's TLS options that is replaced as a whole. A new context has new
 * keys for session tickets. A client therefore cannot resume a session that began under another
 * client CA.
 *
 * The versions are explicit, because Node's options (`--tls-min-v1.0`) can lower the default
 * minimum.
 */
export function contextOptions({ cert, key, clientCa }: TlsMaterial): SecureContextOptions {
  return {
    cert,
    key,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    ...(clientCa && { ca: clientCa }),
  };
}

/**
 * Returns the peer's address; empty on a Unix socket. If the peer disconnected before its address
 * could be read, returns `unknown`. Such a peer is therefore never mistaken for a peer on a Unix
 * socket.
 */
export function remoteAddress(server: Server, { remoteAddress }: Socket): string {
  return remoteAddress ?? (typeof server.address() === 'string' ? '' : 'unknown');
}
