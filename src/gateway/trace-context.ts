/** Whose trace a request is part of, as the gateway says it. */
export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits: the caller's own span. */
  readonly spanId: string;
  /** One byte; its lowest bit says that the caller may have recorded its span. */
  readonly flags: number;
  /** `tracestate` as it came; `undefined` where there was none. */
  readonly state: string | undefined;
}

/** Version, trace, span, flags; neither id is all zeros, `ff` is no version, and only later ones may go on. */
const TRACEPARENT = /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(-.*)?$/;

/** Longer ones need not be carried on (W3C Trace Context §3.3.1.5). */
const MAX_STATE_LENGTH = 512;

/**
 * Reads `traceparent` and `tracestate` (W3C Trace Context).
 *
 * @param headers by their names in lower case; one that came twice is joined, and so none.
 * @returns `undefined` where there is none or it is not valid, which is the same: a trace begins here.
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
