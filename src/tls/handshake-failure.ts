import type { Server } from 'node:net';
import type { TLSSocket } from 'node:tls';

/** Why a TLS handshake failed. This is a closed set, because it is the label of a metric. */
export type HandshakeFailure =
  | 'client_certificate_missing'
  | 'client_certificate_expired'
  | 'client_certificate_purpose'
  | 'client_certificate_untrusted'
  | 'server_certificate_rejected'
  | 'plain_http'
  | 'not_tls'
  | 'protocol_version'
  | 'no_common_cipher'
  | 'no_common_protocol'
  | 'timeout'
  | 'connection_closed'
  | 'other';

/**
 * Called for each failed handshake.
 *
 * @param peer the client's address; `undefined` on a Unix socket, or if the connection is already
 *   gone.
 */
export type OnHandshakeFailure = (reason: HandshakeFailure, peer: string | undefined) => void;

/** Reasons by error code, which Node derives from OpenSSL's reason. */
const BY_CODE: Readonly<Record<string, HandshakeFailure>> = {
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'client_certificate_missing',
  ERR_SSL_HTTP_REQUEST: 'plain_http',
  ERR_SSL_HTTPS_PROXY_REQUEST: 'plain_http',
  ERR_SSL_WRONG_VERSION_NUMBER: 'not_tls',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'protocol_version',
  ERR_SSL_NO_SHARED_CIPHER: 'no_common_cipher',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'no_common_protocol',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'timeout',
  ECONNRESET: 'connection_closed',
  EPIPE: 'connection_closed',
};

/**
 * The alert with which a client rejects gatecar's certificate before it disconnects (RFC 8446
 * §6.2).
 */
const CERTIFICATE_ALERT = /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|(UNSUPPORTED_)?CERTIFICATE(_\w+)?)$/;

/** Reports the failed handshakes of a TLS server. It closes no connection. */
export function followHandshakes(server: Server, onFailure: OnHandshakeFailure | undefined): void {
  if (onFailure === undefined) return;
  server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    onFailure(handshakeFailure(error, socket), socket.remoteAddress);
  });
}

/**
 * Returns the reason of a failure. A rejected client certificate appears in the error only as a
 * closed connection, so the socket's `authorizationError` is checked first.
 */
function handshakeFailure(error: Error & { code?: string }, { authorizationError }: TLSSocket): HandshakeFailure {
  if (authorizationError) return rejectedCertificate(String(authorizationError));
  const { code = '' } = error;
  if (CERTIFICATE_ALERT.test(code)) return 'server_certificate_rejected';
  return BY_CODE[code] ?? 'other';
}

function rejectedCertificate(code: string): HandshakeFailure {
  if (code === 'CERT_HAS_EXPIRED') return 'client_certificate_expired';
  return code === 'INVALID_PURPOSE' ? 'client_certificate_purpose' : 'client_certificate_untrusted';
}
