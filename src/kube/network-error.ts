import type { UnavailableCause } from '../decision/decision.ts';
import { errorCode } from '../system/error-code.ts';

const CAUSE_OF_CODE: Readonly<Record<string, UnavailableCause>> = {
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
  ETIMEDOUT: 'timeout',
  ECONNREFUSED: 'connection_refused',
  ECONNRESET: 'connection_reset',
  EPIPE: 'connection_reset',
  UND_ERR_SOCKET: 'connection_reset',
  ENOTFOUND: 'dns_failure',
  EAI_AGAIN: 'dns_failure',
  UND_ERR_RES_EXCEEDED_MAX_SIZE: 'response_too_large',
  EPROTO: 'tls',
};

/**
 * Classifies a fault below HTTP by the error code of the system or a library. The error's text must
 * not be reported.
 */
export function classifyNetworkError(error: unknown): UnavailableCause {
  const code = errorCode(error);
  if (/^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH)/.test(code)) return 'tls';
  return CAUSE_OF_CODE[code] ?? 'connection_failed';
}
