import type { Protocol } from '../gateway/decision-event.ts';
import { HANDSHAKE_LOG_WINDOW_MS, MAX_LOGGED_PEER_LENGTH } from '../limits/constants.ts';
import type { HandshakeFailure, OnHandshakeFailure } from '../tls/handshake-failure.ts';
import { logRateLimiter } from './logging/log-rate-limit.ts';
import type { Logger } from './logging/logger.ts';

const REASONS: Readonly<Record<HandshakeFailure, true>> = {
  client_certificate_missing: true,
  client_certificate_expired: true,
  client_certificate_purpose: true,
  client_certificate_untrusted: true,
  server_certificate_rejected: true,
  plain_http: true,
  not_tls: true,
  protocol_version: true,
  no_common_cipher: true,
  no_common_protocol: true,
  timeout: true,
  connection_closed: true,
  other: true,
};

/** Every reason; each counter starts at 0. */
export const HANDSHAKE_FAILURES = Object.keys(REASONS) as readonly HandshakeFailure[];

export interface HandshakeLog {
  /** Returns the reporter for one listener. */
  of(listener: Protocol): OnHandshakeFailure;
  /** Logs the number of failures that are still held back. */
  close(): void;
}

/**
 * Counts failed TLS handshakes, and limits how many are logged. The first failure of each listener
 * and reason gets a line. Further failures in the same window are counted in one summary line.
 */
export function handshakeLog(
  log: Pick<Logger, 'info'>,
  count: (listener: Protocol, reason: HandshakeFailure) => void,
  windowMs = HANDSHAKE_LOG_WINDOW_MS,
): HandshakeLog {
  const gate = logRateLimiter({
    burst: 1,
    windowMs,
    maxKinds: 2 * HANDSHAKE_FAILURES.length,
    onSummary: (kind, suppressed) => {
      const [protocol, reason] = kind.split(' ');
      log.info({ protocol, reason, suppressed }, 'more TLS handshakes failed');
    },
  });
  const timer = setInterval(() => gate.sweep(), windowMs).unref();
  return {
    of: protocol => (reason, peer) => {
      count(protocol, reason);
      if (!gate.admit(`${protocol} ${reason}`)) return;
      log.info({ protocol, reason, peer: peer?.slice(0, MAX_LOGGED_PEER_LENGTH) }, 'TLS handshake failed');
    },
    close() {
      clearInterval(timer);
      gate.sweep(true);
    },
  };
}
