import type { Authorize, RequestContext } from '../../authorize.ts';
import { type Credential, readCredential } from '../../credential/authorization-header.ts';
import type { Allow, Decision, Deny } from '../../decision/decision.ts';
import { CHECK_HELD_BYTES } from '../../limits/constants.ts';
import type { AuthResponse } from '../auth-response.ts';
import { type DecisionEvent, INTERNAL_ERROR, type StartTrace } from '../decision-event.ts';
import type { ReadyRequest } from '../fair-turns.ts';
import type { Forwarded, ForwardedOptions } from '../forwarded-headers.ts';
import { clientAddressFromCheck, forwardedFromCheck, traceContextFromCheck } from './check-attributes.ts';
import { checkResponse } from './check-response.ts';
import { beforeDeadline } from './deadline.ts';
import { answerCall, failCall, type GrpcCall, STATUS } from './grpc-call.ts';
import type { InFlightCounter } from './in-flight.ts';
import { CheckRequest } from './message/check-request.ts';
import { decoded } from './message/protobuf.ts';

const NO_MESSAGE: Buffer = Buffer.alloc(0);

/** The decision on a message that cannot be decoded. It contains no usable credential. */
export const UNREADABLE: Deny = { kind: 'deny', reason: 'credentials_malformed', detail: '' };

export interface CheckOptions extends ForwardedOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => AuthResponse;
  readonly onDecision?: (decided: DecisionEvent) => void;
  readonly startTrace?: StartTrace | undefined;
  /** Called with an unexpected error. gatecar answers the request as unavailable. */
  readonly onFault: (error: unknown) => void;
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number;
}

/** Answers `Check` calls. */
export interface CheckHandler {
  /** Decides by the credential in the message. */
  check(message: Buffer, call: GrpcCall): void;
  /** Answers a call whose message is not available. */
  answer(call: GrpcCall, decision: Exclude<Decision, Allow>): void;
}

/** Callbacks for changes in the state of a call. */
export interface CallEvents {
  /** The call waits for a review. */
  onPending(call: GrpcCall): void;
  /**
   * The review has ended, for all calls that waited for it. `check` answers the call; the listener
   * schedules it.
   */
  onDecided(call: GrpcCall, check: ReadyRequest): void;
  /** The response has been written. The client has not necessarily read it. */
  onAnswered(call: GrpcCall, decision: Decision): void;
}

/**
 * Creates a handler that answers `Check` as the HTTP listener answers `/auth`. It avoids failing
 * the call as an RPC, because a gateway may then fail open. Internal errors, and calls whose
 * deadline is about to pass, get a denial with status `UNAVAILABLE`.
 */
export function createCheckHandler(options: CheckOptions, calls: InFlightCounter, events: CallEvents): CheckHandler {
  const { authorize, startTrace, now = () => performance.now() } = options;
  const responder = createResponder(options, calls, events);

  const begin = (call: GrpcCall, request: CheckRequest): CheckCall => {
    calls.begin();
    return new CheckCall(call, request, options);
  };
  const decideLater = (check: CheckCall, pending: Promise<Decision>): void => {
    const { call, request } = check;
    request.keep();
    events.onPending(call);
    beforeDeadline(call, pending, now)
      .then(decision => {
        events.onDecided(call, { handle: () => responder.answer(check, decision), keep() {} });
      })
      .catch(error => responder.fail(check, error));
  };

  const reply: CheckHandler['answer'] = (call, decision) =>
    responder.answer(begin(call, new CheckRequest(NO_MESSAGE)), decision);

  return {
    check(message, call) {
      const request = decoded(() => new CheckRequest(message));
      if (request === undefined) return reply(call, UNREADABLE);
      const check = begin(call, request);
      try {
        check.trace = startTrace?.(() => traceContextFromCheck(call, request, check.credential, options));
        const decision = authorize(check.credential, check);
        if (decision instanceof Promise) decideLater(check, decision);
        else responder.answer(check, decision);
      } catch (error) {
        responder.fail(check, error);
      }
    },
    answer: reply,
  };
}

/** Answers each check once, whatever fails. */
interface Responder {
  answer(check: CheckCall, decision: Decision): void;
  /** Answers a check as unavailable, because of an unexpected error. */
  fail(check: CheckCall, error: unknown): void;
}

function createResponder(options: CheckOptions, calls: InFlightCounter, events: CallEvents): Responder {
  const { onDecision, onFault, now = () => performance.now() } = options;

  const finish = (check: CheckCall, decision: Decision): void => {
    if (check.isAnswered) return;
    const { call } = check;
    const answer = options.answer(decision);
    const response = checkResponse(answer);
    check.isAnswered = true;
    calls.end();
    answerCall(call.stream, response);
    events.onAnswered(call, decision);
    check.decision = decision;
    check.answer = answer;
    check.durationMs = now() - call.startMs;
    onDecision?.(check);
  };
  const fail: Responder['fail'] = (check, error) => {
    onFault(error);
    try {
      finish(check, INTERNAL_ERROR);
    } catch (second) {
      onFault(second);
      if (check.isAnswered) return;
      check.isAnswered = true;
      calls.end();
      failCall(check.call.stream, STATUS.INTERNAL, 'the call cannot be answered');
    }
  };
  return {
    answer(check, decision) {
      try {
        finish(check, decision);
      } catch (error) {
        fail(check, error);
      }
    },
    fail,
  };
}

/** A `Check` call and the decision on it. */
class CheckCall implements DecisionEvent, RequestContext {
  readonly protocol = 'grpc';
  readonly call: GrpcCall;
  readonly request: CheckRequest;
  readonly credential: Credential;
  trace: DecisionEvent['trace'];
  decision: Decision = INTERNAL_ERROR;
  answer!: AuthResponse;
  durationMs = 0;
  isAnswered = false;
  readonly #options: ForwardedOptions;

  constructor(call: GrpcCall, request: CheckRequest, options: ForwardedOptions) {
    this.call = call;
    this.request = request;
    this.#options = options;
    this.credential = readCredential(request.authorization);
  }

  get client(): string | undefined {
    return clientAddressFromCheck(this.call, this.request, this.#options);
  }

  get heldBytes(): number {
    return CHECK_HELD_BYTES + this.request.size + this.call.heldBytes;
  }

  forwarded(): Forwarded {
    return forwardedFromCheck(this.call, this.request, this.credential, this.#options);
  }
}
