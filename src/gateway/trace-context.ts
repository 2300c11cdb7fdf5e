/** The trace context that the gateway sends with a request. */
export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits: the span of the caller. */
  readonly spanId: string;
  /** One byte. If its lowest bit is set, the caller may have recorded its span. */
  readonly flags: number;
  /** `tracestate` as received; `undefined` if it is missing, empty or too long. */
  readonly state: string | undefined;
}

/**
 * Version, trace id, span id and flags. The ids must not be all zeros, and version `ff` is invalid.
 * Only versions after `00` may have further fields.
 */
const TRACEPARENT = /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(-.*)?$/;

/**
 * Maximum length of `tracestate`, in characters. Longer values need not be propagated (W3C Trace
 * Context §3.3.1.5).
 */
const MAX_STATE_LENGTH = 512;

/**
 * Reads `traceparent` and `tracestate` (W3C Trace Context).
 *
 * @param headers by lower-case name. A `traceparent` that is sent twice is joined and therefore
 *   invalid.
 * @returns `undefined` if `traceparent` is missing or invalid. In both cases a new trace starts.
 */
export function readTraceContext(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): TraceContext | undefined {
  const { traceparent, tracestate } = headers;
  if (typeof traceparent !== 'string') return undefined;
  const [, version, traceId = '', spanId = '', flags = '', more] = TRACEPARENT.exec(traceparent) ?? [];
  if (version === undefined || (version === '00' && more !== undefined)) return undefined;
  const state = typeof tracestate === 'string' && tracestate.length <= MAX_STATE_LENGTH ? tracestate : '';
  return { traceId, spanId, flags: Number.parseInt(flags, 16), state: state || undefined };
}
