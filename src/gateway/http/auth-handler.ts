import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Authorize, RequestContext } from '../../authorize.ts';
import { type Credential, readCredential } from '../../credential/authorization-header.ts';
import type { Decision } from '../../decision/decision.ts';
import {
  BODY_DRAIN_MS,
  HTTP_HELD_PER_HEADER_BYTE,
  HTTP_REQUEST_HELD_BYTES,
  HTTP_RESPONSES_PER_TURN,
} from '../../limits/constants.ts';
import type { AuthResponse } from '../auth-response.ts';
import { type DecisionEvent, INTERNAL_ERROR, type StartTrace } from '../decision-event.ts';
import { FairTurns, type ReadyRequest, SharedConnection } from '../fair-turns.ts';
import {
  clientAddressForLimit,
  type Forwarded,
  type ForwardedOptions,
  readForwarded,
  traceContextFromProxy,
} from '../forwarded-headers.ts';
import { writeResponse } from './response-writer.ts';
import { connectionOf } from './server.ts';

export interface AuthHandlerOptions extends ForwardedOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => AuthResponse;
  readonly onDecision?: (decided: DecisionEvent) => void;
  readonly startTrace?: StartTrace | undefined;
  /** Called with an unexpected error. The client gets a 503 if no response has been sent. */
  readonly onFault?: (error: unknown) => void;
  /** While true, responses ask the gateway to close the connection. */
  readonly draining?: () => boolean;
  readonly now?: () => number;
  readonly lingerMs?: number;
}

/** The parts of an HTTP request that the handler needs. */
export interface AuthRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The request target as the client sent it. */
  readonly target: string;
  /** The address of the peer; empty on a Unix socket. */
  readonly peer: string;
}

/** Creates a handler that decides each request by its credential and sends the response. */
export function createAuthHandler(options: AuthHandlerOptions): (request: AuthRequest) => void {
  const turns = new FairTurns(HTTP_RESPONSES_PER_TURN);
  return request => {
    const exchange = new PendingRequest(options, request);
    try {
      const decision = exchange.decide();
      if (decision instanceof Promise) exchange.await(decision, turns);
      else exchange.finish(decision);
    } catch (error) {
      exchange.fail(error);
    }
  };
}

/** One request, its decision and its response. */
class PendingRequest implements DecisionEvent, RequestContext, ReadyRequest {
  readonly protocol = 'http';
  readonly credential: Credential;
  trace: DecisionEvent['trace'];
  decision: Decision = INTERNAL_ERROR;
  answer!: AuthResponse;
  durationMs = 0;
  readonly #options: AuthHandlerOptions;
  readonly #auth: AuthRequest;
  readonly #startedAt: number;

  constructor(options: AuthHandlerOptions, auth: AuthRequest) {
    this.#options = options;
    this.#auth = auth;
    this.#startedAt = this.#now();
    this.credential = readCredential(auth.request.rawHeaders);
  }

  get client(): string | undefined {
    return clientAddressForLimit(this.#auth.peer, this.#auth.request.headers, this.#options);
  }

  get heldBytes(): number {
    const { request, target } = this.#auth;
    return request.rawHeaders.reduce(
      (bytes, text) => bytes + HTTP_HELD_PER_HEADER_BYTE * text.length,
      HTTP_REQUEST_HELD_BYTES + target.length,
    );
  }

  forwarded(): Forwarded {
    return readForwarded(this.#auth.peer, this.#auth.request.headers, this.credential, this.#options);
  }

  decide(): Decision | Promise<Decision> {
    const { authorize, startTrace } = this.#options;
    const { peer, request } = this.#auth;
    this.trace = startTrace?.(() => traceContextFromProxy(peer, request.headers, this.credential, this.#options));
    return authorize(this.credential, this);
  }

  await(decision: Promise<Decision>, turns: FairTurns): void {
    decision
      .then(decided => {
        this.decision = decided;
        turns.add(new SharedConnection(), this);
      })
      .catch(error => this.fail(error));
  }

  handle(): void {
    try {
      this.finish(this.decision);
    } catch (error) {
      this.fail(error);
    }
  }

  keep(): void {}

  finish(decision: Decision): void {
    const { request, response } = this.#auth;
    const { draining = () => false, lingerMs = BODY_DRAIN_MS } = this.#options;
    this.decision = decision;
    this.answer = this.#options.answer(decision);
    writeResponse(connectionOf(request), request, response, this.answer, { draining: draining(), lingerMs });
    this.durationMs = this.#now() - this.#startedAt;
    this.#options.onDecision?.(this);
  }

  fail(error: unknown): void {
    const { onFault = () => {} } = this.#options;
    const { response } = this.#auth;
    onFault(error);
    if (response.headersSent) return;
    try {
      this.finish(INTERNAL_ERROR);
    } catch (again) {
      onFault(again);
      // Otherwise the gateway would wait for a response that never comes.
      if (!response.headersSent) response.destroy();
    }
  }

  #now(): number {
    return this.#options.now?.() ?? performance.now();
  }
}
