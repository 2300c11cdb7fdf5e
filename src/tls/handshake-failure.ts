import type { Server } from 'node:net';
import type { TLSSocket } from 'node:tls';

/** Why a TLS handshake failed: a closed set, which is a metric's label. */
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

/** @param peer its address; `undefined` if the connection is already gone, and on a Unix socket. */
export type OnHandshakeFailure = (reason: HandshakeFailure, peer: string | undefined) => void;

/** By the error's code, which Node makes of OpenSSL's reason. */
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

/** What the client says about our certificate before it leaves (RFC 8446 §6.2). */
const CERTIFICATE_ALERT = /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|(UNSUPPORTED_)?CERTIFICATE(_\w+)?)$/;

/** Reports the failed handshakes of a TLS server. It closes no connection. */
export function followHandshakes(server: Server, onFailure: OnHandshakeFailure | undefined): void {
  if (onFailure === undefined) return;
  server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    onFailure(handshakeFailure(error, socket), socket.remoteAddress);
  });
}

/** A certificate that is rejected ends as a closed connection, so the socket is asked first. */
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
