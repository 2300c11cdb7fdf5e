import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Authorize, Question } from '../authorize.ts';
import { type Credential, readCredential } from '../credential/bearer.ts';
import type { Decision } from '../decision/decision.ts';
import type { Answer } from './answer.ts';
import { type Decided, type Follow, INTERNAL_ERROR } from './decided.ts';
import { type Departing, Departures } from './departures.ts';
import { FairTurns, type ReadyRequest, type RequestLimits, SharedConnection } from './fair-turns.ts';
import { type Forwarded, type ForwardedOptions, readForwarded, reportedClient, reportedTrace } from './forwarded.ts';
import { LINGER_MS, writeAnswer } from './http-answer.ts';
import { connectionOf, KEEP_ALIVE_MS } from './http-server.ts';
import { wholeHead } from './whole-head.ts';

/** What a request takes while it waits, in bytes: by itself, and for each byte of its head. */
const HELD_BYTES = 6 * 1024;
const HELD_PER_BYTE = 2;

/** How many of those that have waited for a review are answered in one turn of the event loop. */
const ANSWERS_PER_TURN: RequestLimits = { inAll: 64, perConnection: 1, ms: 3 };

export interface ExchangeOptions extends ForwardedOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => Answer;
  readonly onDecision?: (decided: Decided) => void;
  readonly follow?: Follow | undefined;
  /** Told of an error nobody foresaw; the request has been answered 503. */
  readonly onFault?: (error: unknown) => void;
  /** While true, answers ask the gateway to leave the connection. */
  readonly draining?: () => boolean;
  readonly now?: () => number;
  readonly lingerMs?: number;
}

/** Answers a request by its credential. @param peer its address; empty on a Unix socket. */
export type Handle = (request: IncomingMessage, response: ServerResponse, peer: string) => void;

/** Answers each request by its credential. */
export function gate(options: ExchangeOptions): Handle {
  const desk = new Desk(options);
  return (request, response, peer) => {
    const exchange = new Exchange(desk, request, response, peer);
    try {
      const decision = desk.decide(exchange);
      if (decision instanceof Promise) desk.await(exchange, decision);
      else desk.answer(exchange, decision);
    } catch (error) {
      exchange.fail(error);
    }
  };
}

/** What all requests of one listener share. */
class Desk {
  readonly options: ExchangeOptions;
  readonly now: () => number;
  readonly draining: () => boolean;
  readonly lingerMs: number;
  readonly whole = wholeHead(KEEP_ALIVE_MS);
  readonly #departures = new Departures();
  readonly #turns = new FairTurns(ANSWERS_PER_TURN);

  constructor(options: ExchangeOptions) {
    this.options = options;
    this.now = options.now ?? (() => performance.now());
    this.draining = options.draining ?? (() => false);
    this.lingerMs = options.lingerMs ?? LINGER_MS;
  }

  decide(exchange: Exchange): Decision | Promise<Decision> {
    return this.options.authorize(exchange.credential, exchange);
  }

  /** What was decided at once may wait for others of its kind; who has waited for a review has waited enough. */
  answer(exchange: Exchange, decision: Decision): void {
    exchange.decision = decision;
    this.#departures.add(exchange);
  }

  await(exchange: Exchange, decision: Promise<Decision>): void {
    this.#departures.pass(exchange.startedAt);
    decision
      .then(decided => {
        exchange.decision = decided;
        this.#turns.add(new SharedConnection(), exchange);
      })
      .catch(error => exchange.fail(error));
  }
}

/**
 * One request and what became of it. An object with methods, and no closures: most requests are answered at once, and
 * making five functions for each of them took as long as finding the answer.
 */
class Exchange implements Decided, Departing, Question, ReadyRequest {
  readonly protocol = 'http';
  readonly request: IncomingMessage;
  readonly credential: Credential;
  readonly peer: string;
  readonly startedAt: number;
  readonly trail: Decided['trail'];
  decision: Decision = INTERNAL_ERROR;
  answer!: Answer;
  durationMs = 0;
  readonly #desk: Desk;
  readonly #response: ServerResponse;

  constructor(desk: Desk, request: IncomingMessage, response: ServerResponse, peer: string) {
    this.#desk = desk;
    this.#response = response;
    this.startedAt = desk.now();
    this.request = request;
    this.credential = readCredential(request.rawHeaders);
    this.peer = peer;
    const { follow } = desk.options;
    this.trail = follow?.(() => reportedTrace(this.peer, request.headers, this.credential, desk.options));
  }

  get client(): string | undefined {
    return reportedClient(this.peer, this.request.headers, this.#desk.options);
  }

  get heldBytes(): number {
    const { url = '', rawHeaders } = this.request;
    return rawHeaders.reduce((bytes, text) => bytes + HELD_PER_BYTE * text.length, HELD_BYTES + url.length);
  }

  forwarded(): Forwarded {
    return readForwarded(this.peer, this.request.headers, this.credential, this.#desk.options);
  }

  handle(): void {
    this.leave();
  }

  keep(): void {}

  leave(): void {
    try {
      this.finish(this.decision);
    } catch (error) {
      this.fail(error);
    }
  }

  finish(decision: Decision): void {
    const desk = this.#desk;
    const { options, whole, lingerMs } = desk;
    const { request } = this;
    const response = this.#response;
    const connection = connectionOf(request);
    const answer = options.answer(decision);
    const draining = desk.draining();
    if (answer.head !== undefined && !draining && whole.suits(request, response) && !connection.hasBody) {
      whole.write(response, answer.head, answer.body);
    } else {
      writeAnswer(connection, request, response, answer, { draining, lingerMs });
    }
    this.decision = decision;
    this.answer = answer;
    this.durationMs = desk.now() - this.startedAt;
    options.onDecision?.(this);
  }

  fail(error: unknown): void {
    this.#desk.options.onFault?.(error);
    if (!this.#response.headersSent) this.finish(INTERNAL_ERROR);
  }
}
