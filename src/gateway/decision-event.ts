import type { RequestContext } from '../authorize.ts';
import type { Credential } from '../credential/authorization-header.ts';
import { type Decision, overloaded, type Unavailable } from '../decision/decision.ts';
import type { AuthResponse } from './auth-response.ts';
import type { Forwarded } from './forwarded-headers.ts';
import type { TraceContext } from './trace-context.ts';

export type Protocol = 'http' | 'grpc';

/** One decision, as reported to metrics and logs. */
export interface DecisionEvent {
  readonly protocol: Protocol;
  readonly decision: Decision;
  readonly answer: AuthResponse;
  readonly credential: Credential;
  readonly durationMs: number;
  /** Computed on demand, because most decisions are allows and are not logged. */
  forwarded(): Forwarded;
  /** The trace that {@link StartTrace} started, if any. */
  readonly trace: Trace | undefined;
}

export type Trace = NonNullable<RequestContext['trace']>;

/** Starts the trace of a request. It calls `parent` only if it needs the caller's trace context. */
export type StartTrace = (parent: () => TraceContext | undefined) => Trace;

/** The decision if gatecar's own code fails. It says nothing about the caller. */
export const INTERNAL_ERROR: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'internal_error',
  retryAfterSeconds: 1,
};

/** The decision on a request for which the process has no memory left. */
export const OVERLOADED: Unavailable = overloaded('transfers_memory_full');
