import type { Server, Socket } from 'node:net';
import type { SecureContextOptions, TlsOptions } from 'node:tls';
import type { OnHandshakeFailure } from './handshake-failure.ts';

/** How long a peer may take for its TLS handshake, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** TLS 1.2 is left with forward secrecy and authenticated encryption alone. */
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

/** What a listener shows and trusts, PEM. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** With it, clients must show a certificate that one of these authorities signed. */
  readonly clientCa: Buffer | undefined;
}

/** TLS as a listener needs it. */
export interface ListenerTls {
  /** What is in force now. */
  readonly material: TlsMaterial;
  /** Told whenever it has been replaced; connections that are open go on as they are. */
  onReplaced(take: (material: TlsMaterial) => void): void;
}

/** How a listener is reached. */
export interface ListenerOptions {
  /** Plain text without it. */
  readonly tls?: ListenerTls | undefined;
  readonly handshakeTimeoutMs?: number | undefined;
  /** Called for each TLS handshake that failed. */
  readonly onHandshakeFailure?: OnHandshakeFailure | undefined;
}

/** The part of a server's TLS options that never changes. Named here, since the process may be told to begin below 1.2. */
export function handshakeOptions(
  { material }: ListenerTls,
  handshakeTimeout: number = HANDSHAKE_TIMEOUT_MS,
): TlsOptions {
  const mutual = material.clientCa !== undefined;
  return { handshakeTimeout, requestCert: mutual, rejectUnauthorized: mutual };
}

/**
 * The part that is replaced as a whole. A new context has new keys for session tickets, so nobody comes back by a session
 * that began under another client CA.
 */
export function contextOptions({ cert, key, clientCa }: TlsMaterial): SecureContextOptions {
  return {
    ...{ cert, key, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3', ciphers: CIPHERS },
    ...(clientCa && { ca: clientCa }),
  };
}

/** A peer's address, empty on a Unix socket. Who has gone before it could be asked for its address is nobody, and does not pass for a peer on a Unix socket. */
export function remoteAddress(server: Server, { remoteAddress }: Socket): string {
  return remoteAddress ?? (typeof server.address() === 'string' ? '' : 'unknown');
}
