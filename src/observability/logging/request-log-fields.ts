import type { DecisionEvent } from '../../gateway/decision-event.ts';

/** Request details that the gateway forwarded, with the field names of log and audit lines. */
export interface RequestLogFields {
  readonly clientAddress: string | undefined;
  readonly requestId: string | undefined;
  readonly method: string | undefined;
  readonly uri: string | undefined;
  /**
   * The field names that log collectors use to find a trace (OpenTelemetry, Trace Context in
   * non-OTLP Log Formats).
   */
  readonly trace_id: string | undefined;
  readonly span_id: string | undefined;
}

/**
 * Returns the fields of a request. The span is gatecar's own if there is one, else the gateway's.
 */
export function requestLogFields(decided: DecisionEvent): RequestLogFields {
  const { trace, ...forwarded } = decided.forwarded();
  const { traceId, spanId } = decided.trace?.span ?? trace ?? {};
  return { ...forwarded, trace_id: traceId, span_id: spanId };
}
