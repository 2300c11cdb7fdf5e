import type { Question } from '../authorize.ts';
import type { Credential } from '../credential/authorization-header.ts';
import type { Decision, Unavailable } from '../decision/decision.ts';
import type { Answer } from './auth-response.ts';
import type { Forwarded } from './forwarded-headers.ts';
import type { TraceParent } from './trace-context.ts';

export type Protocol = 'http' | 'grpc';

/** One decision, as told to metrics and logs. */
export interface Decided {
  readonly protocol: Protocol;
  readonly decision: Decision;
  readonly answer: Answer;
  readonly credential: Credential;
  readonly durationMs: number;
  /** Read only when it is wanted: most decisions are allows and are not logged. */
  forwarded(): Forwarded;
  /** Where {@link Follow} gave one. */
  readonly trail: Trail | undefined;
}

export type Trail = NonNullable<Question['trail']>;

/** Begins to follow a request; whose trace it is part of is read only where that is wanted. */
export type Follow = (parent: () => TraceParent | undefined) => Trail;

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
