import type { RequestContext } from '../authorize.ts';
import type { Credential } from '../credential/authorization-header.ts';
import type { Decision, Unavailable } from '../decision/decision.ts';
import type { AuthResponse } from './auth-response.ts';
import type { Forwarded } from './forwarded-headers.ts';
import type { TraceContext } from './trace-context.ts';

export type Protocol = 'http' | 'grpc';

/** One decision, as told to metrics and logs. */
export interface DecisionEvent {
  readonly protocol: Protocol;
  readonly decision: Decision;
  readonly answer: AuthResponse;
  readonly credential: Credential;
  readonly durationMs: number;
  /** Read only when it is wanted: most decisions are allows and are not logged. */
  forwarded(): Forwarded;
  /** Where {@link StartTrace} gave one. */
  readonly trail: Trail | undefined;
}

export type Trail = NonNullable<RequestContext['trail']>;

/** Begins to follow a request; whose trace it is part of is read only where that is wanted. */
export type StartTrace = (parent: () => TraceContext | undefined) => Trail;

/** What is decided where our own code failed: nothing about the caller. */
export const INTERNAL_ERROR: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'internal error',
  retryAfterSeconds: 1,
};

/** The decision on a request for which the process has no memory left. */
export const OVERLOADED: Unavailable = {
  kind: 'unavailable',
  reason: 'overloaded',
  cause: 'transfers_memory_full',
  retryAfterSeconds: 1,
};
