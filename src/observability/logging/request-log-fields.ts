import type { DecisionEvent } from '../../gateway/decision-event.ts';

/** What the gateway told of a request, as lines of log and audit name it. */
export interface RequestLogFields {
  readonly clientAddress: string | undefined;
  readonly requestId: string | undefined;
  readonly method: string | undefined;
  readonly uri: string | undefined;
  /** Under the names by which log collectors find a trace (OpenTelemetry, Trace Context in non-OTLP Log Formats). */
  readonly trace_id: string | undefined;
  readonly span_id: string | undefined;
}

/** The span is our own where there is one, else the gateway's. */
export function requestLogFields(decided: DecisionEvent): RequestLogFields {
  const { trace, ...said } = decided.forwarded();
  const { traceId, spanId } = decided.trail?.span ?? trace ?? {};
  return { ...said, trace_id: traceId, span_id: spanId };
}
