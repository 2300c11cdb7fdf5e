import type { Authorize, Question } from '../authorize.ts';
import { type Credential, readCredential } from '../credential/bearer.ts';
import type { Allow, Decision, Unavailable } from '../decision/decision.ts';
import type { Identity } from '../identity/identity.ts';
import type { Answer } from './answer.ts';
import { clientIn, forwardedIn, traceIn } from './check-forwarded.ts';
import { CheckRequest } from './check-request.ts';
import { checkResponse } from './check-response.ts';
import { type Decided, type Follow, INTERNAL_ERROR } from './decided.ts';
import type { ReadyRequest } from './fair-turns.ts';
import type { Forwarded, ForwardedOptions } from './forwarded.ts';
import { answerCall, type GrpcCall } from './grpc-call.ts';
import type { UnderWay } from './under-way.ts';

/** The longest that Node's timers can wait; past it they fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** How long before a gateway's deadline it is answered: this part of the time it gave, and milliseconds at the least. */
const DEADLINE_MARGIN = 0.1;
const DEADLINE_MARGIN_MS = 20;

/** What a check takes while it waits for a review, in bytes, besides its message. */
const HELD_BYTES = 6 * 1024;

/** What the units of `grpc-timeout` are in milliseconds. */
const TIMEOUT_UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

export interface CheckOptions extends ForwardedOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => Answer;
  readonly onDecision?: (decided: Decided) => void;
  readonly follow?: Follow | undefined;
  /** Told of an error nobody foresaw; the request has been answered as unavailable. */
  readonly onFault: (error: unknown) => void;
  /** Milliseconds on a clock that is never set. */
  readonly now?: () => number;
}

const LATE: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 1,
};

/** Answers calls of `Check`. */
export interface Checker {
  /** Decides by the credential in the message. @throws {ProtobufError} if the bytes are not a `CheckRequest`. */
  check(message: Buffer, call: GrpcCall): void;
  /** Answers without a message. */
  answer(call: GrpcCall, decision: Exclude<Decision, Allow>): void;
}

/** What a listener does when a call changes. */
export interface CallEvents {
  /** The call waits for a review. */
  onPending(call: GrpcCall): void;
  /** Its review has ended, with those of all that waited for the same one. It is answered when it is its turn. */
  onDecided(call: GrpcCall, check: ReadyRequest): void;
  /** Its answer has been written, which its client has yet to read. */
  onAnswered(call: GrpcCall, decision: Decision): void;
}

/**
 * Answers `Check` as the HTTP listener answers `/auth`. It never fails as an RPC, which a gateway may take as leave to
 * fail open: our own faults, and a deadline that is about to pass, are answered as a denial with status `UNAVAILABLE`.
 */
export function checker(options: CheckOptions, calls: UnderWay, events: CallEvents): Checker {
  const desk = new Desk(options, calls, events);
  return {
    check(message, call) {
      const check = new Check(desk, call, new CheckRequest(message));
      try {
        const decision = check.decide();
        if (decision instanceof Promise) check.await(decision);
        else check.finish(decision);
      } catch (error) {
        check.fail(error);
      }
    },
    answer(call, decision) {
      const check = new Check(desk, call, new CheckRequest(NO_MESSAGE));
      try {
        check.finish(decision);
      } catch (error) {
        check.fail(error);
      }
    },
  };
}

const NO_MESSAGE: Buffer = Buffer.alloc(0);

/** What all checks of one listener share. */
class Desk {
  readonly options: CheckOptions;
  readonly calls: UnderWay;
  readonly now: () => number;
  readonly events: CallEvents;
  readonly #allows = new WeakMap<Identity, Buffer>();

  constructor(options: CheckOptions, calls: UnderWay, events: CallEvents) {
    this.options = options;
    this.calls = calls;
    this.events = events;
    this.now = options.now ?? (() => performance.now());
  }

  /**
   * Encodes a response. The message of an allow is kept as long as its identity is cached: encoding
   * is expensive.
   */
  messageOf(decision: Decision, answer: Answer): Buffer {
    // A stale response also contains its age.
    if (decision.kind !== 'allow' || decision.staleSeconds !== undefined) return checkResponse(answer);
    const { identity } = decision;
    if (identity === undefined) return checkResponse(answer);
    let message = this.#allows.get(identity);
    if (message === undefined) {
      message = checkResponse(answer);
      this.#allows.set(identity, message);
    }
    return message;
  }
}

/** One check and what became of it: an object with methods, and no closures, as one request over HTTP is. */
class Check implements Decided, Question, ReadyRequest {
  readonly protocol = 'grpc';
  readonly credential: Credential;
  trail: Decided['trail'];
  decision: Decision = INTERNAL_ERROR;
  answer!: Answer;
  durationMs = 0;
  readonly #desk: Desk;
  readonly #call: GrpcCall;
  readonly #request: CheckRequest;
  #answered = false;

  constructor(desk: Desk, call: GrpcCall, request: CheckRequest) {
    this.#desk = desk;
    this.#call = call;
    this.#request = request;
    this.credential = readCredential(request.authorization);
    desk.calls.begin();
  }

  decide(): Decision | Promise<Decision> {
    const { options } = this.#desk;
    const { authorize, follow } = options;
    this.trail = follow?.(() => traceIn(this.#call, this.#request, this.credential, options));
    return authorize(this.credential, this);
  }

  await(decision: Promise<Decision>): void {
    this.#request.keep();
    this.#desk.events.onPending(this.#call);
    this.#beforeDeadline(decision)
      .then(decided => {
        this.decision = decided;
        this.#desk.events.onDecided(this.#call, this);
      })
      .catch(error => this.fail(error));
  }

  get client(): string | undefined {
    return clientIn(this.#call, this.#request, this.#desk.options);
  }

  get heldBytes(): number {
    return HELD_BYTES + this.#request.size + this.#call.heldBytes;
  }

  handle(): void {
    try {
      this.finish(this.decision);
    } catch (error) {
      this.fail(error);
    }
  }

  keep(): void {}

  forwarded(): Forwarded {
    return forwardedIn(this.#call, this.#request, this.credential, this.#desk.options);
  }

  finish(decision: Decision): void {
    if (this.#answered) return;
    const desk = this.#desk;
    const { options, calls, now } = desk;
    const answer = options.answer(decision);
    const message = desk.messageOf(decision, answer);
    this.#answered = true;
    calls.end();
    answerCall(this.#call.stream, message);
    desk.events.onAnswered(this.#call, decision);
    this.decision = decision;
    this.answer = answer;
    this.durationMs = now() - this.#call.startMs;
    options.onDecision?.(this);
  }

  fail(error: unknown): void {
    this.#desk.options.onFault(error);
    this.finish(INTERNAL_ERROR);
  }

  /** The decision, or that it came too late for this gateway, while it can still be told. The review itself goes on. */
  async #beforeDeadline(decision: Promise<Decision>): Promise<Decision> {
    const allowed = timeoutIn(this.#call);
    if (allowed === undefined) return decision;
    const given = this.#call.startMs + allowed - this.#desk.now();
    const left = given - Math.max(given * DEADLINE_MARGIN, DEADLINE_MARGIN_MS);
    const { promise: late, resolve } = Promise.withResolvers<Decision>();
    const timer = setTimeout(() => resolve(LATE), Math.min(Math.max(left, 0), MAX_TIMER_MS));
    try {
      return await Promise.race([decision, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** How long the gateway waits, in milliseconds. What is no time is no limit: a failed call would be worse than a late one. */
function timeoutIn({ headers }: GrpcCall): number | undefined {
  const [, value, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(headers['grpc-timeout'])) ?? [];
  return value === undefined ? undefined : Number(value) * (TIMEOUT_UNITS[unit] as number);
}
