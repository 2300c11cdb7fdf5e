import type { Authorize } from '../authorize.ts';
import { type Credential, readCredential } from '../credential/bearer.ts';
import type { Decision, Unavailable } from '../decision/decision.ts';
import type { Answer } from './answer.ts';
import { clientIn, forwardedIn, traceIn } from './check-forwarded.ts';
import { CheckRequest } from './check-request.ts';
import { checkResponse } from './check-response.ts';
import { type Decided, type Follow, INTERNAL_ERROR, question } from './decided.ts';
import type { Forwarded, ForwardedOptions } from './forwarded.ts';
import { answerCall, type GrpcCall } from './grpc-call.ts';
import type { UnderWay } from './under-way.ts';

/** The longest that Node's timers can wait; past it they fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** How long before a gateway's deadline it is answered: this part of the time it gave, and milliseconds at the least. */
const DEADLINE_MARGIN = 0.1;
const DEADLINE_MARGIN_MS = 20;

/** How much is kept of messages whose checks wait for a review, in all. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;

/** What the units of `grpc-timeout` are in milliseconds. */
const TIMEOUT_UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

export interface CheckOptions extends ForwardedOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => Answer;
  readonly onDecision?: (decided: Decided) => void;
  readonly follow?: Follow | undefined;
  /** Told of an error nobody foresaw; the request has been answered as unavailable. */
  readonly onFault: (error: unknown) => void;
  /** Of messages whose checks wait, in all; of what is more, logs know the address and no details. */
  readonly maxKeptBytes?: number;
  /** Milliseconds on a clock that is never set. */
  readonly now?: () => number;
}

const LATE: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 1,
};

/**
 * Answers `Check` as the HTTP listener answers `/auth`. It never fails as an RPC, which a gateway may take as leave to
 * fail open: our own faults, and a deadline that is about to pass, are answered as a denial with status `UNAVAILABLE`. What
 * is no `CheckRequest` is the one thing it throws for, a `ProtobufError`.
 */
export function checker(options: CheckOptions, calls: UnderWay): (message: Buffer, call: GrpcCall) => void {
  const desk = new Desk(options, calls);
  return (message, call) => {
    const check = new Check(desk, call, new CheckRequest(message));
    try {
      const decision = check.decide();
      if (decision instanceof Promise) check.await(decision);
      else check.finish(decision);
    } catch (error) {
      check.fail(error);
    }
  };
}

/** What all checks of one listener share. */
class Desk {
  readonly options: CheckOptions;
  readonly calls: UnderWay;
  readonly now: () => number;
  keptBytes = 0;
  readonly #maxKeptBytes: number;
  readonly #rendered = new WeakMap<Answer, Buffer>();

  constructor(options: CheckOptions, calls: UnderWay) {
    this.options = options;
    this.calls = calls;
    this.now = options.now ?? (() => performance.now());
    this.#maxKeptBytes = options.maxKeptBytes ?? MAX_KEPT_BYTES;
  }

  /**
   * Keeps of a request whose check waits what there is room for: who leaves takes its stream along, and with it what bounds the
   * messages of streams, but the review goes on. @returns how many bytes are kept.
   */
  keep(request: CheckRequest): number {
    if (this.keptBytes + request.size > this.#maxKeptBytes) request.forget();
    else request.keep();
    this.keptBytes += request.size;
    return request.size;
  }

  /** As it is sent; rendered once for as long as the answer is kept. */
  messageOf(answer: Answer): Buffer {
    let message = this.#rendered.get(answer);
    if (message === undefined) {
      message = checkResponse(answer);
      this.#rendered.set(answer, message);
    }
    return message;
  }
}

/** One check and what became of it: an object with methods, and no closures, as one request over HTTP is. */
class Check implements Decided {
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
  #keptBytes = 0;

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
    return authorize(this.credential, question(clientIn(this.#call, this.#request, options), this.trail));
  }

  await(decision: Promise<Decision>): void {
    this.#keptBytes = this.#desk.keep(this.#request);
    this.#beforeDeadline(decision)
      .then(decided => this.finish(decided))
      .catch(error => this.fail(error));
  }

  forwarded(): Forwarded {
    return forwardedIn(this.#call, this.#request, this.credential, this.#desk.options);
  }

  finish(decision: Decision): void {
    if (this.#answered) return;
    const desk = this.#desk;
    const { options, calls, now } = desk;
    const answer = options.answer(decision);
    const message = desk.messageOf(answer);
    this.#answered = true;
    desk.keptBytes -= this.#keptBytes;
    calls.end();
    answerCall(this.#call.stream, message);
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
