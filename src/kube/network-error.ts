import type { OutageCause } from '../decision/decision.ts';
import { errorCode } from './endpoint.ts';

const OUTAGE_OF_CODE: Readonly<Record<string, OutageCause>> = {
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
  ETIMEDOUT: 'timeout',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EPIPE: 'connection reset',
  UND_ERR_SOCKET: 'connection reset',
  ENOTFOUND: 'host not found',
  EAI_AGAIN: 'host not found',
  UND_ERR_RES_EXCEEDED_MAX_SIZE: 'response too large',
  EPROTO: 'tls',
};

/** The class of what went wrong below HTTP, by the system's or a library's code; all of an error that may be told. */
export function outageOf(error: unknown): OutageCause {
  const code = errorCode(error);
  if (/^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH)/.test(code)) return 'tls';
  return OUTAGE_OF_CODE[code] ?? 'connection failed';
}
